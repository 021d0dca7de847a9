// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// inside is the argument with which a process of ours begins that is to become a program inside; see [Enter].
const inside = "sandbox-inside"

// Descriptors of the process inside.
const (
	programFD = 3 // what it is to become
	reportFD  = 4 // where it says why it could not
)

// cannotIsolate is the exit code of a process inside that could not become the program.
const cannotIsolate = 125

// nobody is the user that runs the program if we are root: whoever gets out is nobody, and limits do not hold for root.
const nobody = 65534

// afterwards bounds how long a killed process may hold on to its output.
const afterwards = 2 * time.Second

// Run runs the program and waits for its end. It fails if the program did not begin, or ctx ended first.
func (p *Program) Run(ctx context.Context, job Job) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, err //nolint:wrapcheck // the caller's own
	}
	task, err := json.Marshal(job)
	if err != nil {
		return Result{}, fmt.Errorf("describe the job: %w", err)
	}
	report, reporting, err := os.Pipe()
	if err != nil {
		return Result{}, fmt.Errorf("make a pipe: %w", err)
	}
	defer func() { _ = report.Close() }()
	timed, cancel := context.WithTimeout(ctx, job.Limits.Time)
	defer cancel()
	printed := &bounded{left: job.Limits.Output, full: cancel}
	cmd := p.command(timed, reporting, task, printed)
	err = cmd.Start()
	_ = reporting.Close()
	if err != nil {
		return Result{}, fmt.Errorf("%w: no process with namespaces of its own: %w", ErrCannotIsolate, err)
	}
	// The other end is closed when the process becomes the program, or ends.
	refusal, _ := io.ReadAll(io.LimitReader(report, 4<<10))
	err = cmd.Wait()
	switch {
	case ctx.Err() != nil:
		return Result{}, ctx.Err() //nolint:wrapcheck // the caller's own
	case len(refusal) > 0:
		return Result{}, fmt.Errorf("%w: %s", ErrCannotIsolate, strings.TrimSpace(string(refusal)))
	case cmd.ProcessState == nil:
		return Result{}, fmt.Errorf("wait for the program: %w", err)
	}
	return outcome(cmd.ProcessState, printed, timed.Err(), job.Limits), nil
}

// command is this very program, in namespaces of its own, on the way to become the other one. There it is the first
// process: with it all others are ended.
func (p *Program) command(ctx context.Context, report *os.File, task []byte, printed io.Writer) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", inside)
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.Stdin = bytes.NewReader(task)
	cmd.Stdout, cmd.Stderr = printed, printed
	cmd.ExtraFiles = []*os.File{p.file, report}
	cmd.WaitDelay = afterwards
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP,
		Setpgid:    true,
		Pdeathsig:  syscall.SIGKILL,
		Credential: &syscall.Credential{NoSetGroups: true},
	}
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = nobody, nobody
		cmd.SysProcAttr.Credential.NoSetGroups, cmd.SysProcAttr.GidMappingsEnableSetgroups = false, true
	}
	cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
	cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: gid, Size: 1}}
	return cmd
}

// outcome says what became of a process that has ended.
func outcome(state *os.ProcessState, printed *bounded, timed error, limits Limits) Result {
	output, full := printed.content()
	result := Result{Code: state.ExitCode(), Output: output}
	switch {
	case full:
		result.Reason = Output
	case errors.Is(timed, context.DeadlineExceeded) && !state.Exited():
		result.Reason = Time
	case !state.Exited() && state.UserTime()+state.SystemTime() >= limits.CPU/2: // the kernel counts otherwise than it tells
		result.Reason = CPU
	case !state.Exited():
		result.Reason = Killed
	}
	return result
}

// bounded keeps what is printed, up to a bound, at which it calls full.
type bounded struct {
	mu   sync.Mutex
	text []byte
	left int
	full func()
	over bool
}

func (b *bounded) Write(text []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	take := text[:min(len(text), b.left)]
	b.text = append(b.text, take...)
	b.left -= len(take)
	if len(take) == len(text) {
		return len(text), nil
	}
	b.over = true
	b.full()
	return len(take), io.ErrShortWrite
}

func (b *bounded) content() (text []byte, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text, b.over
}
