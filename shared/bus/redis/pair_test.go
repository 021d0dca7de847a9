// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"testing"
)

// pair is a primary and a replica of it, and the address that leads to the primary.
type pair struct {
	primary, replica *server
	link             *link // of the buses
	links            map[*server]*link
}

func startPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{primary: startServer(t), replica: startServer(t)}
	p.links = map[*server]*link{p.primary: newLink(t, p.primary), p.replica: newLink(t, p.replica)}
	p.follow(p.replica, p.primary)
	return p
}

// follow makes one server a replica of another, and waits until it has what that one has.
func (p *pair) follow(replica, primary *server) {
	replica.t.Helper()
	host, port := p.links[primary].address()
	replica.do("REPLICAOF", host, port)
	p.sync(replica, primary)
}

func (p *pair) sync(replica, primary *server) {
	replica.t.Helper()
	replica.wait("follow its primary", func() bool {
		at, of := replica.replication(), primary.replication()
		return infoField(at, "master_link_status") == "up" && infoField(of, "connected_slaves") == "1" &&
			infoField(at, "master_repl_offset") == infoField(of, "master_repl_offset")
	})
}

func (s *server) replication() string {
	return s.admin.Info(context.Background(), "replication").Val()
}

// promote makes the replica the primary, and the address lead to it. What it lacks is up
// to the function, which is called when it takes no more from the old primary.
func (p *pair) promote(lag func()) {
	p.sync(p.replica, p.primary)
	p.replica.do("REPLICAOF", "NO", "ONE")
	lag()
	p.swap()
}

func (p *pair) swap() {
	p.link.lead(p.replica)
	p.link.cut()
	p.primary, p.replica = p.replica, p.primary
}

// rejoin makes the old primary a replica of the new one.
func (p *pair) rejoin() { p.follow(p.replica, p.primary) }
