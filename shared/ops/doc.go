// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package ops is what an operator sees of a program from outside its API: health,
// metrics, profiles, logs, traces and the build.
//
// Its guarantees: profiles and metrics are served by the operations listener and
// nowhere else; that listener bounds the time of every request, and answers about
// health without the causes of failures, which only the log has; a log record
// made within a trace carries trace_id and span_id at its top level; nothing leaves
// the installation unless an OTLP receiver is configured, and one that is away
// neither slows nor stops the program. The listener has no authentication: bind it
// to loopback or to a network of operators.
package ops
