// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"net"
	"testing"
)

// One connection too many is closed, and there is room again when another has gone.
func TestConnectionsAreBounded(t *testing.T) {
	listener := &pipes{conns: make(chan net.Conn, 3), closed: make(chan struct{})}
	bounded := slotted{Listener: listener, slots: make(chan struct{}, 1), open: make(chan struct{}, 1)}
	var theirs [2]net.Conn
	for i := range theirs {
		var ours net.Conn
		ours, theirs[i] = net.Pipe()
		listener.conns <- ours
	}
	first, err := bounded.Accept()
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan net.Conn)
	go func() {
		conn, _ := bounded.Accept()
		accepted <- conn
	}()
	if _, err := theirs[1].Read(make([]byte, 1)); err == nil {
		t.Error("the second connection is open")
	}
	_, _ = first.Close(), first.Close()
	ours, third := net.Pipe()
	defer func() { _ = third.Close() }()
	listener.conns <- ours
	if conn := <-accepted; conn.(*slottedConn).Conn != ours {
		t.Error("another connection than the third was accepted")
	}
}
