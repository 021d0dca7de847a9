// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/shared/fault"
)

const (
	// certificateAge is when a listener's certificate is replaced, well within its 90 days.
	certificateAge = 30 * 24 * time.Hour
	// certificatePause is the rest after an issue that failed.
	certificatePause = 10 * time.Second
)

type (
	issuing   = func(context.Context, time.Time) (*tls.Certificate, error)
	certified = func(*tls.ClientHelloInfo) (*tls.Certificate, error)
)

// renewed is a source of certificates for a listener, of which issue makes one at a time: now, and again at the first
// handshake after it has grown old. While no new one can be had the old one goes on serving; if there is none because a
// key service is away, handshakes fail until there is.
func renewed(ctx context.Context, now func() time.Time, issue issuing) (certified, error) {
	tried := now()
	current, err := issue(ctx, tried)
	switch {
	case fault.Is(err, pki.ReasonKMSUnavailable):
		current = nil
	case err != nil:
		return nil, fmt.Errorf("certificate of a listener: %w", err)
	}
	var mu sync.Mutex
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		at := now()
		if old := current == nil || at.Sub(current.Leaf.NotBefore) > certificateAge; old && at.Sub(tried) >= certificatePause {
			tried = at
			if next, err := issue(hello.Context(), at); err == nil {
				current = next
			}
		}
		if current == nil {
			return nil, errors.New("there is no certificate yet")
		}
		return current, nil
	}, nil
}

// controlCertificate is the certificate by which this process shows itself to gateways.
func (c *Control) controlCertificate(ctx context.Context) (certified, error) {
	return renewed(ctx, c.deps.Now, func(ctx context.Context, now time.Time) (*tls.Certificate, error) {
		certificate, _, err := c.authority.IssueControl(ctx, now)
		if !c.keyServices.Any() {
			return &certificate, err //nolint:wrapcheck // wrapped by the callers; the key lives in memory alone
		}
		if err != nil {
			return c.keptCertificate(ctx, now, err)
		}
		if err := c.keepCertificate(ctx, &certificate); err != nil { // which a start to come may miss, and nobody now
			c.deps.Log.WarnContext(ctx, "the control plane's certificate could not be kept", "error", err)
		}
		return &certificate, nil
	})
}

// settingCertificate is a certificate of the control plane with its key, sealed: where authorities are in a key service,
// a start must not depend on it.
var (
	settingCertificate = fleet.WrappedControlCertificate.Only
	certificateBinding = seal.At(fleet.WrappedControlCertificate, "", settingCertificate)
)

// keepCertificate keeps the newest certificate for starts to come, of this process and others.
func (c *Control) keepCertificate(ctx context.Context, certificate *tls.Certificate) error {
	pkcs8, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	if err != nil {
		return fmt.Errorf("encode the key of the control plane's certificate: %w", err)
	}
	pair := append(pki.EncodePEM(certificate.Leaf), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	defer clear(pair)
	clear(pkcs8)
	sealed, err := c.ring.Wrap(certificateBinding, pair)
	if err != nil {
		return fmt.Errorf("seal the control plane's certificate: %w", err)
	}
	if err := c.store.PutSetting(ctx, settingCertificate, sealed); err != nil {
		return fmt.Errorf("keep the control plane's certificate: %w", err)
	}
	return nil
}

// keptCertificate returns a certificate that was kept, if it still is one for whoever trusts the control plane; why says
// why there is no new one, and is the error otherwise.
func (c *Control) keptCertificate(ctx context.Context, now time.Time, why error) (*tls.Certificate, error) {
	sealed, err := c.store.Setting(ctx, settingCertificate)
	if err != nil {
		return nil, errors.Join(why, err)
	}
	pair, err := c.ring.Unwrap(certificateBinding, sealed)
	if err != nil {
		return nil, errors.Join(why, err)
	}
	defer clear(pair)
	certificate, err := tls.X509KeyPair(pair, pair)
	if err != nil {
		return nil, errors.Join(why, err)
	}
	trust, err := c.authority.ControlTrust(ctx, now)
	if err != nil {
		return nil, errors.Join(why, err)
	}
	roots := x509.NewCertPool()
	for _, root := range trust.Roots {
		roots.AddCert(root)
	}
	if _, err := certificate.Leaf.Verify(x509.VerifyOptions{Roots: roots, CurrentTime: now}); err != nil {
		return nil, errors.Join(why, err)
	}
	c.deps.Log.InfoContext(ctx, "the control plane shows its former certificate: the key service is away", "not_after", certificate.Leaf.NotAfter)
	return &certificate, nil
}
