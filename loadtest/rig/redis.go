// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Redis is a server of the test's own, which keeps nothing over a restart.
type Redis struct {
	t       testing.TB
	Addr    string
	dir     string
	admin   string // password of the test's own user
	process *Process
}

// StartRedis starts a server whose users are those of the lines of an ACL file, besides
// the test's own.
func StartRedis(t testing.TB, dir string, users []string) *Redis {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := &Redis{t: t, Addr: FreeAddr(t), dir: dir, admin: secretText()}
	lines := append([]string{"user default off", "user rig on >" + r.admin + " ~* &* +@all"}, users...)
	write(t, filepath.Join(dir, "users.acl"), []byte(strings.Join(lines, "\n")+"\n"))
	r.Start()
	return r
}

// Start starts the server, empty.
func (r *Redis) Start() {
	r.t.Helper()
	host, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.process = Start(r.t, Command{
		Name: "redis", Path: outside(r.t, "REDIS_BIN", "redis-server"), Dir: r.dir, Stop: syscall.SIGTERM,
		Args: []string{"--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--aclfile", filepath.Join(r.dir, "users.acl"), "--maxmemory-policy", "noeviction"},
	})
	Await(r.t, "Redis to answer", func() string {
		if _, err := r.do("PING"); err != nil {
			return err.Error()
		}
		return ""
	})
}

// Kill kills the server at once.
func (r *Redis) Kill() { r.process.Kill() }

// Signal sends it a signal.
func (r *Redis) Signal(s syscall.Signal) { r.process.Signal(s) }

// Do runs a command as the administrator and returns the answer's text, of a list one line
// for each element.
func (r *Redis) Do(args ...string) string {
	r.t.Helper()
	answer, err := r.do(args...)
	if err != nil {
		r.t.Fatalf("redis %s: %v", strings.Join(args, " "), err)
	}
	return answer
}

func (r *Redis) do(args ...string) (string, error) {
	dialer := net.Dialer{Timeout: 5 * time.Second}
	conn, err := dialer.DialContext(r.t.Context(), "tcp", r.Addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	reader := bufio.NewReader(conn)
	for _, command := range [][]string{{"AUTH", "rig", r.admin}, args} {
		if _, err := io.WriteString(conn, request(command)); err != nil {
			return "", err
		}
		answer, err := reply(reader)
		if err != nil || &command[0] == &args[0] {
			return answer, err
		}
	}
	return "", nil
}

// request and reply are RESP (Redis serialization protocol, version 2).
func request(args []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(arg), arg)
	}
	return b.String()
}

func reply(reader *bufio.Reader) (string, error) {
	line, err := reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	kind, text := line[0], strings.TrimSpace(line[1:])
	n, _ := strconv.Atoi(text) // of what has a length
	switch {
	case kind == '-':
		return "", fmt.Errorf("redis: %s", text)
	case kind == '$' && n >= 0:
		bulk := make([]byte, n+2)
		_, err := io.ReadFull(reader, bulk)
		return string(bulk[:n]), err
	case kind == '*':
		lines := make([]string, 0, max(n, 0))
		for range n {
			element, err := reply(reader)
			if err != nil {
				return "", err
			}
			lines = append(lines, element)
		}
		return strings.Join(lines, "\n"), nil
	case kind == '$':
		return "", nil
	default:
		return text, nil
	}
}

// secretText is a new password.
func secretText() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return hex.EncodeToString(random)
}
