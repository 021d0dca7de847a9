// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// Example is the path of a file in docs/examples: what users copy is what tests run.
func Example(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(Root(t), "docs", "examples", name)
}

// Root is the folder of the checkout.
func Root(t testing.TB) string {
	t.Helper()
	_, here, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("no caller information")
	}
	return filepath.Join(filepath.Dir(here), "..", "..")
}

// Real is a real agent: a stock supervisor with its collector, or a collector alone.
type Real struct {
	t       testing.TB
	command Command
	process *Process
	// Storage is where the supervisor keeps its state.
	Storage string
}

// Supervisor prepares a stock supervisor with a configuration file, in which it finds
// the variables of docs/examples: those of env, and where collector, storage and server
// are.
func (s *Server) Supervisor(name, config string, env map[string]string) *Real {
	s.t.Helper()
	r := &Real{t: s.t, Storage: filepath.Join(s.Dir, name)}
	if err := os.MkdirAll(r.Storage, 0o700); err != nil {
		s.t.Fatal(err)
	}
	all := map[string]string{
		"AMPORA_OPAMP_URL": s.OpAMPURL(),
		"AMPORA_SERVER_CA": s.CAFile,
		"AMPORA_COLLECTOR": Theirs(s.t, "otelcol"),
		"AMPORA_STORAGE":   r.Storage,
	}
	maps.Copy(all, env)
	r.command = Command{
		Name: name, Path: Theirs(s.t, "opampsupervisor"), Args: []string{"--config", config},
		Dir: s.Dir, Env: all, Stop: syscall.SIGINT, // the only signal it stops its collector on
	}
	return r
}

// Collector prepares a collector that speaks OpAMP by itself, with the variables of
// docs/examples.
func (s *Server) Collector(name, config string, env map[string]string, args ...string) *Real {
	s.t.Helper()
	all := map[string]string{
		"AMPORA_OPAMP_URL":      s.OpAMPURL(),
		"AMPORA_OPAMP_HTTP_URL": "https" + s.OpAMPURL()[len("wss"):],
		"AMPORA_SERVER_CA":      s.CAFile,
	}
	maps.Copy(all, env)
	command := Command{
		Name: name, Path: Theirs(s.t, "otelcol"), Dir: s.Dir, Env: all, Stop: syscall.SIGTERM,
		// Its own metrics listen on a fixed port otherwise.
		Args: append([]string{"--config", config, "--set=service::telemetry::metrics::level=none"}, args...),
	}
	return &Real{t: s.t, command: command}
}

// Start starts the agent.
func (r *Real) Start() *Real {
	r.t.Helper()
	r.process = Start(r.t, r.command)
	return r
}

// Stop stops it in order, and kills whatever it left.
func (r *Real) Stop() { r.process.Stop() }

// Log is what it wrote; for a supervisor followed by its collector's log.
func (r *Real) Log() string {
	text := r.process.Log()
	if r.Storage != "" {
		collector, _ := os.ReadFile(filepath.Join(r.Storage, "agent.log")) // empty before the first start
		text += string(collector)
	}
	return text
}

// Enrol gets files of an identity by amporactl enroll, with a fresh token, and returns
// their folder with the agent's id.
func (s *Server) Enrol(name string, issue ...string) (identity, agent string) {
	s.t.Helper()
	token, id := s.IssueFile(name+".token", issue...)
	identity = filepath.Join(s.Dir, name+".identity")
	s.Do("enroll", "--server", "https://"+s.OpAMP, "--ca-file", s.CAFile, "--token-file", token, "--out-dir", identity)
	return identity, s.AwaitAgent(id)
}
