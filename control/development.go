// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"gitlab.com/ampora/ampora/control/internal/pki"
)

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
