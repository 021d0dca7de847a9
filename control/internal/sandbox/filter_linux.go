// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"

	"github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// allowed are the system calls of a statically linked program, foremost one of Go, that reads files, computes and prints.
// Whatever is not among them fails with EPERM: sockets, other processes, mounts, keys, tracing, namespaces, and what the
// kernel will learn in years to come. A kind of machine may lack some.
var allowed = []string{
	// Files. There are few of them, and none can be written.
	"read", "readv", "pread64", "write", "writev", "close", "open", "openat", "lseek", "fcntl", "dup", "dup2", "dup3",
	"stat", "fstat", "lstat", "newfstatat", "fstatat", "statx", "access", "faccessat", "faccessat2", "readlink", "readlinkat", "getdents64", "getcwd",
	"pipe", "pipe2", "eventfd2", "epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "poll", "ppoll", "select", "pselect6",
	// Memory.
	"mmap", "munmap", "mprotect", "mremap", "madvise", "mincore", "brk",
	// Threads of one process, and their signals.
	"futex", "set_tid_address", "set_robust_list", "rseq", "arch_prctl", "sched_yield", "sched_getaffinity", "membarrier", "gettid", "tgkill",
	"rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "exit", "exit_group",
	// Time.
	"nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday", "time", "timer_create", "timer_settime", "timer_delete", "setitimer",
	// What it is and has.
	"getpid", "getppid", "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo", "getrandom", "getrlimit", "prlimit64", "getrusage",
	// Its own beginning. Afterwards there is nothing that could be executed.
	"execveat",
}

// filter decides about system calls.
type filter struct{ policy seccomp.Policy }

func newFilter() (filter, error) {
	machine, err := arch.GetInfo("")
	if err != nil {
		return filter{}, fmt.Errorf("the system calls of this kind of machine are not known: %w", err)
	}
	var names []string
	for _, name := range allowed {
		if _, known := machine.SyscallNames[name]; known {
			names = append(names, name)
		}
	}
	thread := seccomp.NameWithConditions{Name: "clone", Conditions: []seccomp.Condition{
		{Argument: 0, Operation: seccomp.BitsSet, Value: unix.CLONE_THREAD},
	}}
	return filter{seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: names, NamesWithCondtions: []seccomp.NameWithConditions{thread}},
		},
	}}, nil
}

// load puts the filter before this thread, and what it becomes, for good.
func (f filter) load() error {
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Policy: f.policy}) //nolint:wrapcheck // named by the caller
}
