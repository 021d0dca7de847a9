// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Ours is the path of one of our programs.
func Ours(t testing.TB, name string) string {
	t.Helper()
	return program(t, "AMPORA_E2E_BIN_DIR", name)
}

// Theirs is the path of a real agent's program.
func Theirs(t testing.TB, name string) string {
	t.Helper()
	return program(t, "AMPORA_E2E_AGENTS_DIR", name)
}

func program(t testing.TB, variable, name string) string {
	t.Helper()
	dir := os.Getenv(variable)
	if dir == "" {
		t.Fatalf("%s is not set: run these tests with make e2e", variable)
	}
	path, err := filepath.Abs(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil { //nolint:gosec // where the caller says it is
		t.Fatalf("%s: %v", variable, err)
	}
	return path
}

// Command is a program to start.
type Command struct {
	// Name is for messages and the name of the log file.
	Name string
	Path string
	Args []string
	Dir  string
	// Env is the whole environment, besides PATH and HOME (which is Dir).
	Env map[string]string
	// Stop is the signal it ends on by itself: SIGTERM, but SIGINT for the supervisor.
	Stop syscall.Signal
	// Limit is how long [Run] lets it run. 0: a minute.
	Limit time.Duration
}

// environ is the environment of a program: what the test says, and what no program can
// do without.
func environ(dir string, env map[string]string) []string {
	list := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir}
	for name, value := range env {
		list = append(list, name+"="+value)
	}
	return list
}

// Process is a running program.
type Process struct {
	t       testing.TB
	command Command
	cmd     *exec.Cmd
	log     string
	exited  chan struct{}
}

// Start starts a program; at the end of the test it is stopped. Output of several starts
// goes to the same log.
func Start(t testing.TB, c Command) *Process {
	t.Helper()
	p := &Process{t: t, command: c, log: filepath.Join(c.Dir, c.Name+".log"), exited: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// Not CommandContext: it would kill the program when the test ends, before it can stop by itself.
	p.cmd = exec.Command(c.Path, c.Args...) //nolint:gosec,noctx // what the test says, see above
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = c.Dir, environ(c.Dir, c.Env), log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", c.Name, err)
	}
	go func() {
		_ = p.cmd.Wait() // the state is read by Exit
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("end of %s:\n%s", p.log, tail(p.Log(), 80))
		}
	})
	return p
}

// stopTime is how long a program may take to stop on its signal before it is killed:
// ampora drains for ten seconds, a supervisor waits ten for its collector.
const stopTime = 40 * time.Second

// Stop sends the program the signal it stops on, waits for its end, kills what is left
// of its group, and returns its exit code; -1 if it had to be killed.
func (p *Process) Stop() int {
	p.Signal(p.command.Stop)
	select {
	case <-p.exited:
	case <-time.After(stopTime):
		p.t.Errorf("%s did not stop within %s of %s", p.command.Name, stopTime, p.command.Stop)
	}
	return p.Kill()
}

// Kill kills the program and its group at once.
func (p *Process) Kill() int {
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		p.t.Errorf("kill the group of %s: %v", p.command.Name, err)
	}
	<-p.exited
	return p.cmd.ProcessState.ExitCode()
}

// Signal sends the program, and not its group, a signal. One that has ended is left alone.
func (p *Process) Signal(s syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = p.cmd.Process.Signal(s) // it may end at this moment
	}
}

// Exited is closed when the program has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Exit waits for the end of the program and returns its exit code.
func (p *Process) Exit(wait time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(wait):
		p.t.Fatalf("%s still runs after %s", p.command.Name, wait)
		return -1
	}
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Log is everything the program has written, over all its starts.
func (p *Process) Log() string {
	text, _ := os.ReadFile(p.log) // empty is what a missing log says
	return string(text)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// Result is what a program that ran to its end left.
type Result struct {
	Code           int
	Stdout, Stderr string
}

// Run runs a program to its end.
func Run(t testing.TB, c Command, stdin string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(c.Limit, time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Path, c.Args...) //nolint:gosec // what the test says
	var out, errs strings.Builder
	cmd.Dir, cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Dir, environ(c.Dir, c.Env), strings.NewReader(stdin), &out, &errs
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		t.Fatalf("run %s: %v", c.Name, err)
	}
	return Result{Code: cmd.ProcessState.ExitCode(), Stdout: out.String(), Stderr: errs.String()}
}
