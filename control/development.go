// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/control/internal/pki"
)

// certificateAge is when the development listener's certificate is replaced, well within its 90 days.
const certificateAge = 30 * 24 * time.Hour

// DevelopmentCertificate returns a source of certificates for a listener that has none of its own, and the root, in PEM,
// that verifies them. The key lives in memory alone; a certificate that has grown old is replaced at the next handshake.
func (c *Control) DevelopmentCertificate(ctx context.Context, dns []string, ips []net.IP) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), []byte, error) {
	issue := func(ctx context.Context) (*tls.Certificate, []byte, time.Time, error) {
		now := c.deps.Now()
		certificate, ca, err := c.authority.IssueServer(ctx, pki.ServerRequest{DNSNames: dns, IPs: ips, Now: now})
		if err != nil {
			return nil, nil, now, fmt.Errorf("development certificate: %w", err)
		}
		return &certificate, ca, now, nil
	}
	current, ca, made, err := issue(ctx)
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if c.deps.Now().Sub(made) > certificateAge {
			next, _, at, err := issue(hello.Context())
			if err != nil {
				return nil, err
			}
			current, made = next, at
		}
		return current, nil
	}, ca, nil
}
