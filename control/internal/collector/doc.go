// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package collector knows what a configuration of the OpenTelemetry Collector is.
//
// Its first guarantee is the one agents live by: a body that CheckMapping accepts is one YAML mapping to every program
// that will read it. The OpAMP supervisor saves what it was offered before it looks at it, and does not start again
// when that is no mapping; so the parser that decides here is the one that the Collector (confmap) and the supervisor
// (koanf) use, go.yaml.in/yaml/v3. It is kept by the YAML organization, and its nodes know their lines and columns. A
// second parser with better messages would be a second opinion, and only the first counts.
//
// Nothing here panics, whatever the bytes; time and memory are bounded by the size limit and a limit on nodes.
package collector
