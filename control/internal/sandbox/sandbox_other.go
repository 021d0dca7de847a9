//go:build !linux

// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"crypto/sha256"
	"io"
)

// Program is an executable whose bytes cannot change any more. Only Linux has it.
type Program struct{}

// Load fails: this system does not isolate.
func Load(io.Reader, [sha256.Size]byte) (*Program, error) { return nil, ErrCannotIsolate }

// Run fails: this system does not isolate.
func (*Program) Run(context.Context, Job) (Result, error) { return Result{}, ErrCannotIsolate }

// Close does nothing.
func (*Program) Close() error { return nil }

// Enter does nothing.
func Enter() {}

// Prove fails: this system does not isolate.
func Prove(context.Context) error { return ErrCannotIsolate }
