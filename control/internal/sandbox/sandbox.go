// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package sandbox runs a program that is not trusted, with input that is not trusted, and tells what it said.
//
// What is guaranteed: the bytes that run are those whose digest was asked for, whatever happens to the file meanwhile.
// The program gets its arguments and its files and nothing else: an empty environment, a file system of its own that has
// these files alone and cannot be written, no network, no other process, no capability, and of the system calls those
// that a program needs to read, compute and print. Time, processor, memory, threads, open files and output are bounded.
// When it ends, or is ended, nothing of it is left.
//
// All of this is required. Where the kernel does not give it, [Program.Run] fails with [ErrCannotIsolate] and runs nothing.
// What does the isolating, and what was left out, is in ADR 0034.
package sandbox

import (
	"errors"
	"time"
)

// ErrCannotIsolate says that this machine does not give what isolation needs. Nothing was run.
var ErrCannotIsolate = errors.New("programs cannot be isolated here")

// ErrDigest says that a file does not have the bytes that were asked for.
var ErrDigest = errors.New("the file does not have the digest that it should have")

// Job is what a program is to do.
type Job struct {
	// Args are its arguments, without its name.
	Args []string
	// Files are those that it sees, by their paths below /.
	Files map[string][]byte

	Limits Limits
}

// Limits bound a run. All are required.
type Limits struct {
	// Time is how long it may take, and CPU how much of a processor's time it may use, in whole seconds.
	Time, CPU time.Duration
	// Memory is how many bytes it may map, its own code among them.
	Memory uint64
	// Threads, and open files.
	Threads, Files uint64
	// Output is how many bytes it may print, on both streams together.
	Output int
}

// Reason says why a run was ended.
type Reason string

// The reasons.
const (
	Ended  Reason = ""       // it ended by itself
	Time   Reason = "time"   // it took too long
	CPU    Reason = "cpu"    // it used too much of a processor
	Output Reason = "output" // it printed too much
	Killed Reason = "killed" // a signal ended it, for example that of a crash
)

// Result is what became of a run.
type Result struct {
	Reason Reason
	// Code is its exit code, if it ended by itself.
	Code int
	// Output is what it printed on both streams, up to the bound.
	Output []byte
}
