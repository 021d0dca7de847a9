// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// asPrisoner is the argument of this test when it is to run where no further namespaces are to be had.
const asPrisoner = "as-prisoner"

func TestMain(m *testing.M) {
	Enter()
	if len(os.Args) == 3 && os.Args[1] == asPrisoner {
		prisoner(os.Args[2])
	}
	folder, err := os.MkdirTemp("", "hostile")
	if err != nil {
		panic(err)
	}
	hostileFile = filepath.Join(folder, "hostile")
	build := exec.Command("go", "build", "-o", hostileFile, "./testdata/hostile")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

var hostileFile string

var usual = Limits{Time: 20 * time.Second, CPU: 10 * time.Second, Memory: 2 << 30, Threads: 64, Files: 64, Output: 64 << 10}

func load(t *testing.T, file string) *Program {
	t.Helper()
	bytes, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := Load(f, sha256.Sum256(bytes))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// tricked runs a trick of the hostile program. Where this machine gives no isolation, it makes sure of the refusal, and
// there is nothing else to see.
func tricked(t *testing.T, limits Limits, args ...string) (Result, bool) {
	t.Helper()
	r, err := load(t, hostileFile).Run(t.Context(), Job{Args: args, Files: map[string][]byte{"config.yaml": []byte("a: 1")}, Limits: limits})
	if errors.Is(err, ErrCannotIsolate) {
		t.Logf("this machine does not isolate, and so nothing ran: %v", err)
		if r.Output != nil {
			t.Errorf("it printed %q nevertheless", r.Output)
		}
		return r, false
	}
	if err != nil {
		t.Fatal(err)
	}
	return r, true
}

func TestItSeesWhatItIsGiven(t *testing.T) {
	t.Setenv("AMPORA_MASTER_KEY", "hunter2")
	r, ran := tricked(t, usual, "look")
	if !ran {
		return
	}
	want := "environment: 0 pid: 1\nsees . <nil>\nsees config.yaml <nil>\nhost: sandbox\nread: a: 1 <nil>\n"
	if r.Reason != Ended || r.Code != 0 || string(r.Output) != want {
		t.Errorf("it ended with %d %s and says\n%s", r.Code, r.Reason, r.Output)
	}
}

func TestItCannot(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	socket := filepath.Join(t.TempDir(), "s")
	u, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for trick, args := range map[string][]string{
		"write": nil, "breakOut": nil, "fork": nil,
		"connect": {"tcp!" + l.Addr().String(), "unix!" + socket, "udp!192.0.2.1:53"},
	} {
		t.Run(trick, func(t *testing.T) {
			r, ran := tricked(t, usual, append([]string{trick}, args...)...)
			if !ran {
				return
			}
			for line := range strings.Lines(string(r.Output)) {
				if !strings.HasSuffix(line, ": refused\n") {
					t.Errorf("it says %q", line)
				}
			}
			if r.Reason != Ended || r.Code != 0 || len(r.Output) < 100 {
				t.Errorf("it ended with %d %s: %s", r.Code, r.Reason, r.Output)
			}
		})
	}
}

func TestItIsStopped(t *testing.T) {
	brief := usual
	brief.Time = time.Second
	busy := usual
	busy.CPU = time.Second
	loud := usual // it prints a stack for each
	loud.Output = 4 << 20
	for _, c := range []struct {
		trick  string
		limits Limits
		reason Reason
		says   string
	}{
		{"sleep", brief, Time, ""},
		{"spin", busy, CPU, ""},
		{"spin", brief, Time, ""},
		{"print", usual, Output, "xxx"},
		{"crash", usual, Ended, "SIGSEGV"},
		{"memory", usual, Ended, "out of memory"},
		{"threads", loud, Ended, "failed to create new OS thread"},
		{"files", usual, Ended, "true"},
		{"exit", usual, Ended, "to one\nto the other\n"},
	} {
		t.Run(c.trick, func(t *testing.T) {
			begun := time.Now()
			r, ran := tricked(t, c.limits, c.trick)
			if !ran {
				return
			}
			if r.Reason != c.reason || !strings.Contains(string(r.Output), c.says) || len(r.Output) > c.limits.Output {
				t.Errorf("it ended with %d %q: %.200s", r.Code, r.Reason, r.Output)
			}
			if took := time.Since(begun); took > 15*time.Second {
				t.Errorf("it took %s", took)
			}
			if strings.Contains(string(r.Output), "all of it") || strings.Contains(string(r.Output), "done") {
				t.Errorf("it says %.200s", r.Output)
			}
		})
	}
}

func TestPipesHoldLittle(t *testing.T) {
	r, ran := tricked(t, usual, "memoryElsewhere")
	if !ran {
		return
	}
	held, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(string(r.Output), "pipes hold ")))
	if err != nil || held > 64<<20 {
		t.Errorf("it says %s", r.Output)
	}
}

func TestNothingIsLeft(t *testing.T) {
	brief := usual
	brief.Time = time.Second
	if r, ran := tricked(t, brief, "sleep"); ran && r.Reason != Time {
		t.Errorf("it ended with %q", r.Reason)
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range processes {
		if line, err := os.ReadFile(p); err == nil && bytes.HasPrefix(line, []byte("program\x00sleep")) {
			t.Errorf("%s is still there", p)
		}
	}
}

func TestWhoAsksCanStop(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := load(t, hostileFile).Run(ctx, Job{Args: []string{"sleep"}, Limits: usual})
	if !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrCannotIsolate) {
		t.Errorf("the error is %v", err)
	}
}

func TestDigest(t *testing.T) {
	_, err := Load(strings.NewReader("this"), sha256.Sum256([]byte("that")))
	if !errors.Is(err, ErrDigest) {
		t.Errorf("the error is %v", err)
	}
}

// TestTheCopyRuns: what happens to the file after it was looked at, and who holds its copy, changes nothing.
func TestTheCopyRuns(t *testing.T) {
	file := filepath.Join(t.TempDir(), "program")
	whole, err := os.ReadFile(hostileFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, whole, 0o700); err != nil { //nolint:gosec // in the folder of the test
		t.Fatal(err)
	}
	p := load(t, file)
	if err := os.WriteFile(file, []byte("another"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := p.file.WriteAt([]byte("x"), 0); !errors.Is(err, syscall.EPERM) {
		t.Errorf("the copy can be written: %v", err)
	}
	if err := p.file.Truncate(0); !errors.Is(err, syscall.EPERM) {
		t.Errorf("the copy can be cut: %v", err)
	}
	r, err := p.Run(t.Context(), Job{Args: []string{"exit"}, Limits: usual})
	if r.Code != 7 && !errors.Is(err, ErrCannotIsolate) {
		t.Errorf("it ended with %d, %v", r.Code, err)
	}
}

func TestWhatIsNoProgram(t *testing.T) {
	for name, bytes := range map[string]string{"a script": "#!/bin/sh\necho ran\n", "nothing": "", "a dynamic program": dynamic(t)} {
		p, err := Load(strings.NewReader(bytes), sha256.Sum256([]byte(bytes)))
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.Run(t.Context(), Job{Limits: usual})
		if !errors.Is(err, ErrCannotIsolate) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
		_ = p.Close()
	}
}

// dynamic is a program of this machine that needs libraries.
func dynamic(t *testing.T) string {
	t.Helper()
	shell, err := filepath.EvalSymlinks("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(shell)
	if err != nil {
		t.Fatal(err)
	}
	return string(whole)
}

// TestRefusal: where the kernel gives no namespaces, nothing runs.
func TestRefusal(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", asPrisoner, hostileFile)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil && len(out) == 0 { // there are none for this test either
		_, err = load(t, hostileFile).Run(t.Context(), Job{Args: []string{"exit"}, Limits: usual})
		out = []byte(fmt.Sprint(err))
	}
	if !strings.Contains(string(out), ErrCannotIsolate.Error()) || strings.Contains(string(out), "to one") {
		t.Errorf("it says %s, %v", out, err)
	}
}

// prisoner allows itself no more namespaces and tries to run the program.
func prisoner(file string) {
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0o600); err != nil {
		fmt.Println("the limit cannot be set:", err)
		os.Exit(1)
	}
	whole, err := os.ReadFile(file) //nolint:gosec // the one that the test built
	if err != nil {
		panic(err)
	}
	p, err := Load(bytes.NewReader(whole), sha256.Sum256(whole))
	if err != nil {
		panic(err)
	}
	r, err := p.Run(context.Background(), Job{Args: []string{"exit"}, Limits: usual})
	fmt.Println(string(r.Output), err)
	os.Exit(0)
}

func TestTheFilterIsKnownHere(t *testing.T) {
	f, err := newFilter()
	if err != nil {
		t.Fatal(err)
	}
	names := f.policy.Syscalls[0].Names
	for _, needed := range []string{"read", "write", "mmap", "futex", "openat", "execveat", "exit_group"} {
		if !slices.Contains(names, needed) {
			t.Errorf("%s is not known on %s", needed, runtime.GOARCH)
		}
	}
	for _, n := range names {
		if strings.Contains(n, "socket") || strings.Contains(n, "mount") || n == "execve" || n == "fork" || n == "kill" {
			t.Errorf("%s is allowed", n)
		}
	}
}
