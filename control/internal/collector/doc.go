// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package collector knows what a configuration of the OpenTelemetry Collector is, and what it means.
//
// Its first guarantee is the one agents live by: a body that CheckMapping accepts is one YAML mapping to every program
// that will read it. The OpAMP supervisor saves what it was offered before it looks at it, and does not start again
// when that is no mapping; so the parser that decides here is the one that the Collector (confmap) and the supervisor
// (koanf) use, go.yaml.in/yaml/v3. It is kept by the YAML organization, and its nodes know their lines and columns. A
// second parser with better messages would be a second opinion, and only the first counts.
//
// [Parse] makes a [Config] of such a body, and [Check] says what is wrong with it, each by its rule ([Rules]): an error is
// what the Collector refuses, anything else advice. [Config.SemanticHash] is the same for configurations that mean the
// same. [Diff] tells how two differ, [Drift] what an agent runs otherwise than it was assigned, [Config.Missing] what a
// build lacks for it, [Config.Judge] what a tenant's own rules have against it; [TextDiff] compares bodies of any kind. A
// [StandIn] is what can be shown to a real Collector, and reads what that has to say.
// Why they decide as they do is in ADR 0030.
//
// A Config is never changed once it is made, and may be used by many at once. References (${env:NAME}) are text here;
// nothing is looked up. Secrets are in a Config, but never in findings and changes. Nothing here panics, whatever the
// bytes; time and memory are bounded by the size limit and a limit on nodes, and lists and texts that are returned have
// bounds of their own.
package collector
