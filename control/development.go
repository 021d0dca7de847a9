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
	var root []byte
	issue := func(ctx context.Context, now time.Time) (*tls.Certificate, error) {
		certificate, ca, err := c.authority.IssueServer(ctx, pki.ServerRequest{DNSNames: dns, IPs: ips, Now: now})
		root = ca
		return &certificate, err //nolint:wrapcheck // wrapped by the callers
	}
	current, err := renewed(ctx, c.deps.Now, issue)
	return current, root, err
}

// renewed is a source of certificates for a listener, of which issue makes one at a time: now, and again at the first
// handshake after it has grown old. While no new one can be had the old one goes on serving.
func renewed(ctx context.Context, now func() time.Time, issue func(context.Context, time.Time) (*tls.Certificate, error)) (func(*tls.ClientHelloInfo) (*tls.Certificate, error), error) {
	made := now()
	current, err := issue(ctx, made)
	if err != nil {
		return nil, fmt.Errorf("certificate of a listener: %w", err)
	}
	var mu sync.Mutex
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		if at := now(); at.Sub(made) > certificateAge {
			if next, err := issue(hello.Context(), at); err == nil {
				current, made = next, at
			}
		}
		return current, nil
	}, nil
}
