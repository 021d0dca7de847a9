// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the end-to-end tests: the built programs, real agents, and strangers
// that break the rules. They know of Ampora what a user knows (command lines, JSON,
// files, metrics, logs), and look into the database only to count what was stored.
//
// Run them with make e2e. They are behind the build tag e2e because they need the built
// programs and minutes of time.
package e2e
