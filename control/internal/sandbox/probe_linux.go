// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// probing is the argument with which this program, isolated, looks at what it can do.
const probing = "sandbox-probe"

// isolated is what it prints if that is nothing.
const isolated = "isolated"

// Prove runs this very program where others would run, and has it try what they must not be able to do. It fails with
// [ErrCannotIsolate] if it cannot run there, or finds a way. This program must be linked statically.
func Prove(ctx context.Context) error {
	self, err := os.Open("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannotIsolate, err)
	}
	defer func() { _ = self.Close() }()
	p, _, err := copied(self)
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	r, err := p.Run(ctx, Job{
		Args: []string{probing}, Files: map[string][]byte{"probe": nil},
		Limits: Limits{Time: 20 * time.Second, CPU: 10 * time.Second, Memory: 2 << 30, Threads: 64, Files: 64, Output: 4 << 10},
	})
	if err != nil {
		return err
	}
	if said := strings.TrimSpace(string(r.Output)); said != isolated || r.Code != 0 {
		return fmt.Errorf("%w: a program inside could: %s", ErrCannotIsolate, said)
	}
	return nil
}

// probe is what runs inside for [Prove].
func probe() {
	var could []string
	for what, try := range map[string]func() error{
		"read the environment": func() error { return refusedIf(len(os.Environ()) == 0) },
		"see other files": func() error {
			list, err := os.ReadDir("/")
			return refusedIf(err == nil && len(list) == 1 && list[0].Name() == "probe")
		},
		"write a file": func() error { return os.WriteFile("/new", nil, 0o600) },
		"open a socket": func() error {
			_, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
			return err //nolint:wrapcheck // only whether
		},
		"begin a process": func() error {
			_, err := os.StartProcess("/probe", nil, &os.ProcAttr{})
			return refusedIf(errors.Is(err, unix.EPERM))
		},
		"make namespaces": func() error { return unix.Unshare(unix.CLONE_NEWUSER) },
		"mount":           func() error { return unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND, "") },
	} {
		if try() == nil {
			could = append(could, what)
		}
	}
	if could == nil {
		could = []string{isolated}
	}
	_, _ = io.WriteString(os.Stdout, strings.Join(could, ", ")+"\n")
	os.Exit(0)
}

var errRefused = errors.New("refused")

func refusedIf(refused bool) error {
	if refused {
		return errRefused
	}
	return nil
}
