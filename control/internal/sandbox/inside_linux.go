// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Enter must be the first that main does in a program that uses this package: the process that is to become another
// program begins as this one. It returns in every other process, and in that one never.
func Enter() {
	if len(os.Args) != 2 || os.Getpid() != 1 {
		return
	}
	switch os.Args[1] {
	case probing:
		probe()
	case inside:
	default:
		return
	}
	// What is set for a thread (system calls, capabilities) holds for what this thread becomes.
	runtime.LockOSThread()
	err := become()
	_, _ = unix.Write(reportFD, []byte(err.Error()))
	os.Exit(cannotIsolate)
}

// become returns only if it cannot become the program.
func become() error {
	// Whatever else whoever started us left open stays here as well.
	if err := unix.CloseRange(programFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("let go of open files: %w", err)
	}
	var job Job
	if err := json.NewDecoder(os.Stdin).Decode(&job); err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	argv, err := syscall.SlicePtrFromStrings(append([]string{"program"}, job.Args...))
	if err != nil {
		return fmt.Errorf("the arguments: %w", err)
	}
	filter, err := newFilter()
	if err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"the file system", func() error { return leaveFiles(job.Files) }},
		{"the name of the machine", func() error { return unix.Sethostname([]byte("sandbox")) }},
		{"the limits", func() error { return limit(job.Limits) }},
		{"the capabilities", dropCapabilities},
		{"the filter of system calls", filter.load},
		// From here on this process may find no memory for itself.
		{"the limit of memory", func() error { return limitTo(unix.RLIMIT_AS, job.Limits.Memory) }},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return execute(argv)
}

// stage is a folder that every Linux has. What is mounted there becomes the root.
const stage = "/proc"

// leaveFiles makes a file system that has the given files alone the root, read-only, and lets go of every other one.
func leaveFiles(files map[string][]byte) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("part from the others' mounts: %w", err)
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	if err := unix.Mount("files", stage, "tmpfs", flags, "mode=0555,size=16m,nr_inodes=64"); err != nil {
		return fmt.Errorf("mount an empty one: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if !filepath.IsLocal(name) {
			return fmt.Errorf("%q is no name of a file", name)
		}
		path := filepath.Join(stage, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o555); err != nil { //nolint:gosec // for a process that is nobody
			return fmt.Errorf("make a folder: %w", err)
		}
		if err := os.WriteFile(path, files[name], 0o444); err != nil { //nolint:gosec // likewise
			return fmt.Errorf("write a file: %w", err)
		}
	}
	if err := unix.Mount("", stage, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|flags, ""); err != nil {
		return fmt.Errorf("make it read-only: %w", err)
	}
	if err := unix.Chdir(stage); err != nil {
		return fmt.Errorf("enter it: %w", err)
	}
	// The former root comes to lie on the new one, and is taken off (pivot_root(2)).
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("make it the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the former root: %w", err)
	}
	return unix.Chdir("/") //nolint:wrapcheck // named by the caller
}

// limit sets every limit but that of memory.
func limit(l Limits) error {
	seconds := uint64(math.Ceil(l.CPU.Seconds()))
	for _, r := range []struct {
		which int
		most  uint64
	}{
		{unix.RLIMIT_CPU, seconds},
		{unix.RLIMIT_NPROC, l.Threads},
		{unix.RLIMIT_NOFILE, l.Files},
		{unix.RLIMIT_FSIZE, 0},
		{unix.RLIMIT_CORE, 0},
		{unix.RLIMIT_MEMLOCK, 0},
		{unix.RLIMIT_MSGQUEUE, 0},
	} {
		if err := limitTo(r.which, r.most); err != nil {
			return err
		}
	}
	return nil
}

func limitTo(which int, most uint64) error {
	if err := unix.Prlimit(0, which, &unix.Rlimit{Cur: most, Max: most}, nil); err != nil {
		return fmt.Errorf("limit %d: %w", which, err)
	}
	return nil
}

// dropCapabilities gives up those of this namespace, for good: the user is root in it until the program begins.
func dropCapabilities() error {
	for capability := 0; ; capability++ {
		err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(capability), 0, 0, 0)
		if errors.Is(err, unix.EINVAL) && capability > 0 {
			break // the last one is behind us
		}
		if err != nil {
			return fmt.Errorf("drop %d: %w", capability, err)
		}
	}
	const noRoot = 1<<0 | 1<<1 | 1<<2 | 1<<3 | 1<<6 | 1<<7 // SECBIT_NOROOT, _NO_SETUID_FIXUP, _NO_CAP_AMBIENT_RAISE, all locked
	if err := unix.Prctl(unix.PR_SET_SECUREBITS, noRoot, 0, 0, 0); err != nil {
		return fmt.Errorf("have root mean nothing: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("give them up: %w", err)
	}
	return nil
}

// execute becomes the program, with an empty environment.
func execute(argv []*byte) error {
	empty := [1]byte{}
	env := [1]*byte{}
	_, _, errno := unix.RawSyscall6(unix.SYS_EXECVEAT, programFD, uintptr(unsafe.Pointer(&empty[0])), //nolint:gosec // as the call wants it
		uintptr(unsafe.Pointer(&argv[0])), uintptr(unsafe.Pointer(&env[0])), unix.AT_EMPTY_PATH, 0) //nolint:gosec // likewise
	runtime.KeepAlive(argv)
	return fmt.Errorf("begin the program, which must be for this machine and linked statically: %w", errno)
}
