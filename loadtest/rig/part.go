// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"
)

// Part is one program of an installation.
type Part struct {
	// Name is its own, Ops the host:port of its operations listener.
	Name, Ops string
	// Env is what it is started with next.
	Env     map[string]string
	server  *Server
	program string
	process *Process
}

// Launch starts the program and does not wait for it.
func (p *Part) Launch() *Process {
	p.server.t.Helper()
	line := append(p.server.Wrapper[:len(p.server.Wrapper):len(p.server.Wrapper)], Ours(p.server.t, p.program))
	p.process = Start(p.server.t, Command{
		Name: p.Name, Path: line[0], Args: line[1:], Dir: p.server.Dir, Env: p.Env, Stop: syscall.SIGTERM,
	})
	return p.process
}

// Start starts the program and waits until it is ready.
func (p *Part) Start() {
	p.server.t.Helper()
	p.Launch()
	p.AwaitReady()
}

// AwaitReady waits until the readiness probe succeeds.
func (p *Part) AwaitReady() {
	t := p.server.t
	t.Helper()
	Await(t, p.Name+" to be ready", func() string {
		select {
		case <-p.process.Exited():
			t.Fatalf("%s ended with %d:\n%s", p.Name, p.process.Exit(0), tail(p.process.Log(), 20))
		default:
		}
		status, text := p.ask("/health/ready")
		if status == http.StatusOK {
			return ""
		}
		return text
	})
}

// Process is the running program.
func (p *Part) Process() *Process { return p.process }

// Stop stops the program in order and returns its exit code.
func (p *Part) Stop() int { return p.process.Stop() }

// Kill kills the program at once.
func (p *Part) Kill() { p.process.Kill() }

// Ready asks the readiness probe.
func (p *Part) Ready() bool {
	status, _ := p.ask("/health/ready")
	return status == http.StatusOK
}

func (p *Part) ask(path string) (status int, text string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.Ops+path, nil)
	if err != nil {
		p.server.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

// Metric is the sum of the samples of a metric whose labels contain all those given; 0 if
// the program does not run.
func (p *Part) Metric(name string, labels ...string) float64 {
	p.server.t.Helper()
	status, text := p.ask("/metrics")
	if status == 0 && p.server.flavour.Split() {
		return 0
	}
	if status != http.StatusOK {
		p.server.t.Fatalf("/metrics: %d %s", status, text)
	}
	var sum float64
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		if value, matches := sample(line, labels); matches {
			sum += value
		}
	}
	return sum
}

// Logged reports whether a line of the log contains all the texts.
func (p *Part) Logged(texts ...string) bool {
	if p.process == nil {
		return false
	}
	for line := range strings.Lines(p.process.Log()) {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			return true
		}
	}
	return false
}
