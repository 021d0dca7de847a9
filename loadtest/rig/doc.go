// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package rig starts the built programs and real agents for tests, the way a user
// would: by their command lines, environments and files, and by nothing else of ours.
//
// It guarantees that nothing outlives the test that started it: every program runs in a
// process group of its own, gets the signal it stops on, and its whole group is killed
// at the end, collectors that a supervisor left behind included. Programs get a clean
// environment. When a test fails, the end of each program's log is shown.
//
// What is missing (a binary, a database) fails the test; nothing is skipped. The places
// come from the environment:
//
//	AMPORA_E2E_BIN_DIR        ampora, ampora-control and amporactl
//	AMPORA_E2E_AGENTS_DIR     otelcol and opampsupervisor
//	AMPORA_TEST_POSTGRES_URL  a superuser's URL; databases are made on that server
package rig
