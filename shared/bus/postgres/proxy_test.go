// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// proxy stands between the bus and its server, and can hold back all that passes.
type proxy struct {
	listener net.Listener
	server   string

	gate sync.RWMutex // held for reading by whatever passes
}

func newProxy(t testing.TB, server string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, server: server}
	go p.accept()
	t.Cleanup(func() { _ = listener.Close() })
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// stall holds everything back until resume is called.
func (p *proxy) stall() (resume func()) {
	p.gate.Lock()
	return p.gate.Unlock
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = client.Close()
			continue
		}
		go p.pass(client, server)
		go p.pass(server, client)
	}
}

func (p *proxy) pass(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	_, _ = io.Copy(gated{p, to}, from)
}

type gated struct {
	proxy *proxy
	to    io.Writer
}

func (g gated) Write(bytes []byte) (int, error) {
	g.proxy.gate.RLock()
	defer g.proxy.gate.RUnlock()
	return g.to.Write(bytes)
}
