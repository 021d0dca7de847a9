// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package agent is a small OpAMP agent for tests and demonstrations, built on the
// client of opamp-go and on nothing of the server it talks to.
//
// It does what the stock agents do not do yet, and what a test needs to decide:
//
//   - it asks for its certificate with a request of its own (a CSR in
//     ConnectionSettingsRequest), so that its private key never leaves it, and comes
//     back with the certificate it is offered;
//   - what it says to a configuration is a function of the test: it applies it, fails
//     with words of its own, takes its time, or goes back to the one before;
//   - it remembers everything it was offered, so that a test can tell that something
//     was not.
//
// It runs no telemetry pipeline. An [Agent] is good for one Run.
package agent
