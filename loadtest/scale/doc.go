// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package scale holds the tests with thousands of simulated agents: a split installation behind a load balancer loses a
// process or a server, and afterwards each agent compares what it knows of itself with what the API shows. They are behind
// the build tag scale and take minutes each: make scale.
package scale
