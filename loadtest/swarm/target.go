// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
)

// Target is the server as agents see it: one address or several, of gateways or of what
// stands before them.
type Target struct {
	// Addresses are host:port. An agent takes the next one each time it connects.
	Addresses []string
	// Roots verify the server; nil means the system's.
	Roots *x509.CertPool
	// Locals is how many local addresses the agents connect from, 127.0.1.1 and up. One
	// is good for some 28 000 connections to each address of the server. 0: the kernel's choice.
	Locals int
}

// Check says what cannot work.
func (t Target) Check() error {
	if len(t.Addresses) == 0 {
		return errors.New("no address of a server")
	}
	for _, address := range t.Addresses {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return fmt.Errorf("the address of a server has the form HOST:PORT: %w", err)
		}
		if ip := net.ParseIP(host); t.Locals > 0 && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("local addresses are those of the loopback, and %s is not there", host)
		}
	}
	if t.Locals < 0 || t.Locals > 250 {
		return errors.New("there can be 0 to 250 local addresses")
	}
	return nil
}

// peer is the other end of an agent's connection number attempt.
func (t Target) peer(agent, attempt int) rawopamp.Peer {
	peer := rawopamp.Peer{
		Addr: t.Addresses[attempt%len(t.Addresses)],
		TLS:  &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: t.Roots},
	}
	if t.Locals > 0 {
		peer.From = net.IPv4(127, 0, 1, byte(1+agent%t.Locals)) //nolint:gosec // 1 to 250
	}
	return peer
}
