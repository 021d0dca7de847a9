// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command hostile tries what a program must not be able to do where it is isolated. It prints what became of it.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

func main() {
	if os.Args[1] == "validate" {
		pose()
		return
	}
	tricks[os.Args[1]](os.Args[2:])
}

// pose passes for a Collector that is to validate a configuration. That says which trick to do: "trick: NAME".
func pose() {
	body, err := os.ReadFile(strings.TrimPrefix(os.Args[2], "--config=file:"))
	if err != nil {
		fmt.Println(err)
		os.Exit(4)
	}
	_, name, _ := strings.Cut(string(body), "\"trick\": \"")
	name, _, _ = strings.Cut(name, "\"")
	if trick := tricks[name]; trick != nil {
		trick(nil)
	}
	if name == "" {
		return
	}
	os.Exit(1)
}

var tricks = map[string]func(args []string){
	"look": look, "write": write, "connect": connect, "breakOut": breakOut, "fork": fork, "threads": threads,
	"memory": memory, "memoryElsewhere": memoryElsewhere, "files": files,
	"sleep": func([]string) { time.Sleep(time.Hour) },
	"spin": func([]string) {
		for { //nolint:revive // that is the trick
		}
	},
	"print": func([]string) {
		line := []byte(strings.Repeat("x", 1<<16))
		for range 1 << 14 { // a gigabyte
			if _, err := os.Stdout.Write(line); err != nil {
				os.Exit(3)
			}
		}
		fmt.Println("all of it was printed")
	},
	"crash": func([]string) { _ = syscall.Kill(os.Getpid(), syscall.SIGSEGV); *(*int)(unsafe.Pointer(uintptr(8))) = 1 },
	"exit":  func([]string) { fmt.Println("to one"); fmt.Fprintln(os.Stderr, "to the other"); os.Exit(7) },
}

func say(what string, err error) {
	if err == nil {
		fmt.Println(what + ": done")
		return
	}
	fmt.Println(what + ": refused")
}

func look([]string) {
	fmt.Println("environment:", len(os.Environ()), "pid:", os.Getpid())
	_ = fs.WalkDir(os.DirFS("/"), ".", func(path string, d fs.DirEntry, err error) error {
		fmt.Println("sees", path, err)
		return nil
	})
	name, _ := os.Hostname()
	fmt.Println("host:", name)
	body, err := os.ReadFile("/config.yaml")
	fmt.Println("read:", string(body), err)
	for fd := 3; fd < 64; fd++ {
		var stat syscall.Stat_t
		if syscall.Fstat(fd, &stat) == nil && stat.Mode&syscall.S_IFMT != 0 && !ownPoll(stat) {
			fmt.Println("holds descriptor", fd)
		}
	}
}

// ownPoll: descriptors that the runtime made itself have no type of file.
func ownPoll(stat syscall.Stat_t) bool { return stat.Mode&syscall.S_IFMT == 0 || stat.Ino == 0 }

func write([]string) {
	say("a new file", os.WriteFile("/new", []byte("x"), 0o600))
	say("a file it has", os.WriteFile("/config.yaml", []byte("x"), 0o600))
	say("a folder", os.Mkdir("/folder", 0o700))
	say("to remove", os.Remove("/config.yaml"))
	say("to rename", os.Rename("/config.yaml", "/other"))
	say("to change the mode", os.Chmod("/config.yaml", 0o777))
	for _, path := range []string{"/etc/passwd", "/proc/self/environ", "/proc/1/root/etc/passwd", "/dev/mem", "/sys/kernel", "../../../etc/hostname"} {
		_, err := os.ReadFile(path)
		say("to read "+path, err)
	}
}

func connect(args []string) {
	for _, to := range args {
		network, addr, _ := strings.Cut(to, "!")
		c, err := net.DialTimeout(network, addr, time.Second)
		if err == nil {
			_ = c.Close()
		}
		say("to connect to "+network, err)
	}
	for name, domain := range map[string]int{"unix": syscall.AF_UNIX, "inet": syscall.AF_INET, "netlink": syscall.AF_NETLINK, "packet": syscall.AF_PACKET, "vsock": 40} {
		_, err := syscall.Socket(domain, syscall.SOCK_DGRAM, 0)
		say("a socket of "+name, err)
	}
}

func call(name string, number uintptr, args ...uintptr) {
	var a [6]uintptr
	copy(a[:], args)
	_, _, errno := syscall.RawSyscall6(number, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno == 0 {
		say(name, nil)
		return
	}
	say(name, errno)
}

func breakOut([]string) {
	runtime.LockOSThread()
	root := []byte("/\x00")
	at := uintptr(unsafe.Pointer(&root[0]))
	call("namespaces", syscall.SYS_UNSHARE, syscall.CLONE_NEWUSER)
	call("a mount", syscall.SYS_MOUNT, at, at, at, syscall.MS_REMOUNT|syscall.MS_BIND, 0)
	call("an unmount", syscall.SYS_UMOUNT2, at, syscall.MNT_DETACH)
	call("a root", syscall.SYS_CHROOT, at)
	call("to trace", syscall.SYS_PTRACE, syscall.PTRACE_TRACEME)
	call("to kill all", syscall.SYS_KILL, ^uintptr(0), 0)
	call("another user", syscall.SYS_SETUID, 1)
	call("a file in memory", sysMemfdCreate, at, 0)
	call("shared memory", syscall.SYS_SHMGET, 0, 1<<20, 0o1600)
	call("a key", syscall.SYS_ADD_KEY, at, at, at, 1, 0)
	call("a module", syscall.SYS_INIT_MODULE, at, 1, at)
	call("the clock", syscall.SYS_SETTIMEOFDAY, at, 0)
	call("a program of the kernel", sysBPF, 0, at, 1)
	call("a ring", sysIOUringSetup, 1, at)
	call("a name of the machine", syscall.SYS_SETHOSTNAME, at, 1)
	call("a higher limit", syscall.SYS_PRLIMIT64, 0, syscall.RLIMIT_CORE, uintptr(unsafe.Pointer(&syscall.Rlimit{Cur: 1 << 20, Max: 1 << 20})), 0)
}

func fork([]string) {
	for range 100 {
		if err := exec.Command("/proc/self/exe", "sleep").Start(); err == nil {
			fmt.Println("another process: done")
		}
		call("a copy of itself", syscall.SYS_CLONE, uintptr(syscall.SIGCHLD))
		call("a copy with namespaces", syscall.SYS_CLONE, uintptr(syscall.SIGCHLD)|syscall.CLONE_NEWUSER)
	}
}

func threads([]string) {
	for range 2000 {
		go func() {
			runtime.LockOSThread()
			time.Sleep(time.Hour)
		}()
	}
	time.Sleep(time.Second)
	fmt.Println("two thousand threads: done")
}

func memory([]string) {
	var kept [][]byte
	for range 1 << 10 { // 64 GiB
		block := make([]byte, 64<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
	}
	fmt.Println("all of it was had", len(kept))
}

// memoryElsewhere looks for memory that is not mapped: in pipes.
func memoryElsewhere([]string) {
	total := 0
	for {
		var p [2]int
		if err := syscall.Pipe2(p[:], syscall.O_NONBLOCK); err != nil {
			fmt.Println("pipes hold", total)
			return
		}
		const setSize = 1031
		_, _, _ = syscall.RawSyscall(syscall.SYS_FCNTL, uintptr(p[1]), setSize, 1<<20)
		for {
			n, err := syscall.Write(p[1], make([]byte, 64<<10))
			if err != nil {
				break
			}
			total += n
		}
	}
}

func files([]string) {
	var kept []*os.File
	for {
		f, err := os.Open("/config.yaml")
		if err != nil {
			fmt.Println("files:", len(kept), errors.Is(err, syscall.EMFILE))
			return
		}
		kept = append(kept, f)
	}
}
