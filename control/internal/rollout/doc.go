// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package rollout decides for rollouts, and does nothing else: which agents belong to which wave, whether a plan still
// holds, what a rollout does next, whether a gate stops it, and what time makes of its members.
//
// Its functions are pure: no clock, no I/O, no randomness outside their arguments.
package rollout
