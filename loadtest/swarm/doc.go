// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package swarm simulates thousands of agents in one process: collectors under a
// supervisor as the OpAMP specification describes them, written from it and from what
// the stock agents do, and from nothing of the server.
//
// An agent enrols for a certificate of its own, reports what it is, how it is and what
// it runs, leaves out of later messages what has not changed, takes its time to apply a
// configuration or fails to, and comes back by itself when its connection ends: at once
// after one that was accepted, else with the back-off of opamp-go, and never before a
// Retry-After has passed. On demand it misbehaves as machines and networks do ([Fault]).
//
// What an agent says is a function of the few things that change about it, rendered
// when it is said. So an agent costs its connection and little else, and what the server
// ought to know of it can be told at any time ([Swarm.State]), to be compared with what
// the server says it knows.
//
// One goroutine reads for each agent. Whoever has something to say for it takes its
// lock, and no lock of another agent.
package swarm
