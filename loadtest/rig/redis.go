// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"crypto/rand"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"                    //nolint:depguard // tests do there what the bus never would
	"github.com/redis/go-redis/v9/maintnotifications" //nolint:depguard // likewise
)

// Redis is a server of the test's own, which keeps nothing over a restart.
type Redis struct {
	t       testing.TB
	Addr    string
	dir     string
	admin   *redis.Client
	process *Process
}

// StartRedis starts a server whose users are those of the lines of an ACL file, besides
// the test's own.
func StartRedis(t testing.TB, dir string, users []string) *Redis {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r := &Redis{t: t, Addr: FreeAddr(t), dir: dir}
	password := secretText()
	lines := append([]string{"user default off", "user rig on >" + password + " ~* &* +@all"}, users...)
	write(t, filepath.Join(dir, "users.acl"), []byte(strings.Join(lines, "\n")+"\n"))
	r.admin = redis.NewClient(&redis.Options{Addr: r.Addr, Username: "rig", Password: password, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}})
	t.Cleanup(func() { _ = r.admin.Close() })
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
		if err := r.admin.Ping(r.t.Context()).Err(); err != nil {
			return err.Error()
		}
		return ""
	})
}

// Kill kills the server at once.
func (r *Redis) Kill() { r.process.Kill() }

// Signal sends it a signal.
func (r *Redis) Signal(s syscall.Signal) { r.process.Signal(s) }

// Client is connected as the administrator.
func (r *Redis) Client() *redis.Client { return r.admin }

// Everything is what stands under each key, as the server dumps it.
func (r *Redis) Everything() map[string]string {
	r.t.Helper()
	all := map[string]string{}
	keys, err := r.admin.Keys(r.t.Context(), "*").Result()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, key := range keys {
		all[key] = key + r.admin.Dump(r.t.Context(), key).Val() // gone since, or all of it
	}
	return all
}

// secretText is a new password.
func secretText() string {
	random := make([]byte, 16)
	_, _ = rand.Read(random) // never fails
	return hex.EncodeToString(random)
}
