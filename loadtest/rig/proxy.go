// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"io"
	"net"
	"net/url"
	"sync"
	"testing"
)

// Proxy stands between a program and its database, and can be cut.
type Proxy struct {
	t      testing.TB
	addr   string
	target string

	mu       sync.Mutex
	listener net.Listener
	open     map[net.Conn]struct{}
}

// Through puts a proxy into a database URL. It is cut at first.
func Through(t testing.TB, database string) (p *Proxy, through string) {
	t.Helper()
	parsed, err := url.Parse(database)
	if err != nil {
		t.Fatal("not a database URL")
	}
	p = &Proxy{t: t, addr: FreeAddr(t), target: parsed.Host, open: map[net.Conn]struct{}{}}
	t.Cleanup(p.Cut)
	parsed.Host = p.addr
	return p, parsed.String()
}

// Join lets connections through.
func (p *Proxy) Join() {
	p.t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(p.t.Context(), "tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	p.listener = listener
	p.mu.Unlock()
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go p.carry(conn)
		}
	}()
}

// Cut cuts all connections and refuses new ones.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
		p.listener = nil
	}
	for conn := range p.open {
		_ = conn.Close()
	}
}

func (p *Proxy) carry(in net.Conn) {
	defer in.Close()
	var dialer net.Dialer
	out, err := dialer.DialContext(p.t.Context(), "tcp", p.target)
	if err != nil || !p.keep(in, out) {
		return
	}
	defer p.drop(in, out)
	done := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
		go func() {
			_, _ = io.Copy(way[0], way[1]) // ends when either side is closed
			done <- struct{}{}
		}()
	}
	<-done
}

// keep says no if the proxy was cut meanwhile.
func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		p.open[conn] = struct{}{}
	}
	return p.listener != nil
}

func (p *Proxy) drop(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
		delete(p.open, conn)
	}
}
