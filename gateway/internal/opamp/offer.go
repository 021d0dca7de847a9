// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// HeartbeatSeconds is the interval we offer. It is never 0: that switches heartbeats
// off, and a polling client of opamp-go for good.
const HeartbeatSeconds = 30

// Endpoint is what an offer says of this server.
type Endpoint struct {
	// URL is where agents shall connect (AMPORA_OPAMP_PUBLIC_URL).
	URL string
	// ServerCA verifies this server, in PEM; empty means the agent's system roots. The
	// stock supervisor takes ca_cert of the offered certificate as its only roots for
	// the server, so nothing else may stand there.
	ServerCA []byte
}

// issued is a certificate to offer. Key is nil if the agent has it.
type issued struct {
	chain, key []byte
	agentCA    []byte
}

// offer makes complete connection settings: agents build the new ones from the offer
// alone. No headers: the token must not be repeated.
func (e Endpoint) offer(certificate issued) (*protobufs.ConnectionSettingsOffers, error) {
	ca := e.ServerCA
	if len(ca) > 0 && certificate.key == nil {
		// An agent with a key of its own may look here for the issuer of its
		// certificate, as the specification has it: give it both.
		ca = bytes.Join([][]byte{bytes.TrimSpace(ca), certificate.agentCA}, []byte("\n"))
	}
	settings := &protobufs.OpAMPConnectionSettings{
		DestinationEndpoint:      e.URL,
		HeartbeatIntervalSeconds: HeartbeatSeconds,
		Certificate:              &protobufs.TLSCertificate{Cert: certificate.chain, PrivateKey: certificate.key, CaCert: ca},
	}
	if len(e.ServerCA) > 0 {
		settings.Tls = &protobufs.TLSConnectionSettings{CaPemContents: string(e.ServerCA)}
	}
	offers := &protobufs.ConnectionSettingsOffers{Opamp: settings}
	canonical, err := proto.MarshalOptions{Deterministic: true}.Marshal(offers)
	if err != nil {
		return nil, fmt.Errorf("encoding an offer: %w", err)
	}
	hash := sha256.Sum256(canonical)
	clear(canonical)
	offers.Hash = hash[:]
	return offers, nil
}
