// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package bench measures servers of OpAMP under the same load, by turns in the same run,
// and tells ratios: what one costs in terms of another is worth knowing on a machine
// that others use as well, and absolute figures are not.
//
// A target is a command that starts a server and says where it is ([place.Place]). It is
// started anew for every measurement, with the same settings of the Go runtime as all
// others, and looked at from outside alone: memory and CPU from /proc, the runtime's own
// figures from /metrics. The load is a swarm, the same for all.
//
// Measured are the CPU of a message with its answer, the memory of a connection, and the
// time until all agents have a configuration.
package bench
