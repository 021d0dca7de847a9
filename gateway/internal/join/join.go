// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package join makes a gateway known to the control plane: it trades a join token for a
// certificate, keeps it, renews it long before it expires, and calls with it.
//
// It guarantees that nothing is sent to anybody but a control process whose certificate
// descends from the root that the operator gave (and a join token to nobody else either);
// that the gateway's key never leaves this process but for its own file, which its owner
// alone can read; that a crash at any moment loses no more than one call: a key is on disk
// before a token is spent on it, and the same token gives the same key another certificate.
package join

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/run"
)

// maxResponse bounds what control may answer in bytes: a configuration of 8 MiB and what surrounds it.
const maxResponse = 16 << 20

// callTime bounds one call of this package; signing may wait for a key management service.
const callTime = 30 * time.Second

// Config is what a [Member] needs. Token and Dir may be empty, but not both.
type Config struct {
	// URLs of the control plane's internal service, https://host:port. They are tried in
	// turn: which one it is does not matter, who answers does.
	URLs []string
	// ControlCA is the root of the control plane's certificates, PEM.
	ControlCA []byte
	// Token is the text of a join token, for the first start.
	Token string
	// Dir is where the identity is kept. Empty: in memory alone, so each start needs a
	// token of its own.
	Dir   string
	Log   *slog.Logger
	Clock func() time.Time
}

// Member is a gateway that has joined. Make one with [Open].
type Member struct {
	Config
	roots   *x509.CertPool
	current atomic.Pointer[credential]
	calls   *transport
	base    connect.Transport
	control internalv1connect.GatewayServiceClient
}

// Open reads the identity in the directory, or joins.
func Open(ctx context.Context, c Config) (*Member, error) {
	m := &Member{Config: c, roots: x509.NewCertPool()}
	if !m.roots.AppendCertsFromPEM(c.ControlCA) {
		return nil, errors.New("AMPORA_CONTROL_CA_FILE holds no certificate")
	}
	m.calls = newTransport(c.URLs, m.tls)
	m.base = connecthttp.NewTransport(&http.Client{Transport: m.calls}, c.URLs[0], connecthttp.WithReadMaxBytes(maxResponse))
	m.Observe(c.Log)
	kept, err := m.load()
	if err != nil {
		return nil, err
	}
	if kept == nil || kept.leaf == nil || !c.Clock().Before(kept.leaf.NotAfter) {
		if kept, err = m.join(ctx, kept); err != nil {
			return nil, err
		}
	}
	m.current.Store(kept)
	m.calls.renew()
	return m, nil
}

// Observe says where the member logs from now on, and through which interceptors it calls: who watches a gateway needs
// its name, which joining gives it. It comes before Control and Run.
func (m *Member) Observe(log *slog.Logger, calls ...connect.ClientInterceptor) {
	m.Log, m.control = log, internalv1connect.NewGatewayServiceClient(connect.NewClient(m.base, calls...))
}

// ID is the gateway's name, as its certificate says it.
func (m *Member) ID() identity.GatewayID { return m.current.Load().id }

// Control calls the control plane as this gateway.
func (m *Member) Control() internalv1connect.GatewayServiceClient { return m.control }

// Run renews the certificate when two thirds of its life have passed, until the context
// ends.
func (m *Member) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		if left := m.current.Load().renewAt().Sub(m.Clock()); left > 0 {
			_ = run.Sleep(ctx, min(left, time.Hour)) // the clock may be set meanwhile
			continue
		}
		if err := m.renew(ctx); err != nil && ctx.Err() == nil {
			m.Log.WarnContext(ctx, "the gateway's certificate could not be renewed", "not_after", m.current.Load().leaf.NotAfter, "error", err)
			_ = run.Sleep(ctx, retryTime)
		}
	}
	return nil
}

// retryTime is the rest after a renewal that failed; there are ten days of them.
const retryTime = time.Minute

// join spends the token on the key that is kept, or on a new one.
func (m *Member) join(ctx context.Context, kept *credential) (*credential, error) {
	if m.Token == "" {
		return nil, errors.New("this gateway has no valid identity: give it a join token (AMPORA_JOIN_TOKEN_FILE; amporactl join-tokens issue)")
	}
	var err error
	if kept == nil || kept.leaf != nil { // none, or that of an identity that has expired
		if kept, err = newCredential(); err != nil {
			return nil, err
		}
		if err := m.save(kept); err != nil {
			return nil, err
		}
	}
	request, err := kept.request()
	if err != nil {
		return nil, err
	}
	var answer *internalv1.JoinResponse
	err = m.call(ctx, func(ctx context.Context) (err error) {
		answer, err = m.control.Join(ctx, &internalv1.JoinRequest{Token: m.Token, CsrPem: request})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("joining: %w", err)
	}
	if err := kept.certify(answer.GetCertificateChainPem()); err != nil {
		return nil, err
	}
	m.Log.InfoContext(ctx, "joined the control plane", "gateway", kept.id, "not_after", kept.leaf.NotAfter)
	return kept, m.save(kept)
}

// call repeats a call while the control plane is away.
func (m *Member) call(ctx context.Context, do func(context.Context) error) error {
	for said := false; ; said = true {
		limited, cancel := context.WithTimeout(ctx, callTime)
		err := do(limited)
		cancel()
		switch code := connect.CodeOf(err); {
		case err == nil, ctx.Err() != nil, code != connect.CodeUnavailable && code != connect.CodeDeadlineExceeded:
			return err
		case !said:
			m.Log.WarnContext(ctx, "the control plane cannot be reached; waiting for it", "error", err)
		}
		_ = run.Sleep(ctx, time.Second)
	}
}

// renew certifies a new key.
func (m *Member) renew(ctx context.Context) error {
	next, err := newCredential()
	if err != nil {
		return err
	}
	request, err := next.request()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	answer, err := m.control.RenewIdentity(ctx, &internalv1.RenewIdentityRequest{CsrPem: request})
	if err != nil {
		return err
	}
	if err := next.certify(answer.GetCertificateChainPem()); err != nil {
		return err
	}
	if err := m.save(next); err != nil {
		return err // the present one is good for days; the answer is lost, not the identity
	}
	m.current.Store(next)
	m.calls.renew()
	m.Log.InfoContext(ctx, "renewed the gateway's certificate", "not_after", next.leaf.NotAfter)
	return nil
}

// tls is the configuration of a connection to the control plane.
func (m *Member) tls() *tls.Config {
	config := &tls.Config{
		MinVersion: tls.VersionTLS13,
		// The name in the address says nothing here: who answers is known by the SPIFFE ID
		// in its certificate, below the one root that signs nothing else.
		InsecureSkipVerify: true, //nolint:gosec // verifyControl verifies
		VerifyConnection:   m.verifyControl,
	}
	if kept := m.current.Load(); kept != nil {
		config.Certificates = []tls.Certificate{kept.pair}
	}
	return config
}

var errNotControl = errors.New("the certificate of the other side is not the control plane's")

func (m *Member) verifyControl(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errNotControl
	}
	leaf := state.PeerCertificates[0]
	options := x509.VerifyOptions{Roots: m.roots, CurrentTime: m.Clock(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if _, err := leaf.Verify(options); err != nil {
		return fmt.Errorf("%w: %w", errNotControl, err)
	}
	if len(leaf.URIs) != 1 || leaf.URIs[0].String() != identity.ControlURI(leaf.URIs[0].Host).String() {
		return errNotControl
	}
	return nil
}

// credential is a key and, once certified, its certificate.
type credential struct {
	key  *ecdsa.PrivateKey
	id   identity.GatewayID
	leaf *x509.Certificate // nil before it is certified
	pair tls.Certificate
	pem  []byte // the chain
}

func newCredential() (*credential, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the gateway's key: %w", err)
	}
	return &credential{key: key}, nil
}

// request is a certificate request of the key, in PEM. The name is the control plane's to give.
func (c *credential) request() ([]byte, error) {
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, c.key)
	if err != nil {
		return nil, fmt.Errorf("making a certificate request: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}

// certify takes a chain for the key, leaf first.
func (c *credential) certify(chain []byte) error {
	var pair tls.Certificate
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			pair.Certificate = append(pair.Certificate, block.Bytes)
		}
	}
	if len(pair.Certificate) == 0 {
		return errors.New("the gateway's certificate is missing")
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return fmt.Errorf("the gateway's certificate: %w", err)
	}
	if len(leaf.URIs) != 1 || !c.key.PublicKey.Equal(leaf.PublicKey) {
		return errors.New("the gateway's certificate is for another key or names nobody")
	}
	id, err := identity.GatewayFromCertificate(leaf, leaf.URIs[0].Host)
	if err != nil {
		return fmt.Errorf("the gateway's certificate: %w", err)
	}
	pair.PrivateKey, pair.Leaf = c.key, leaf
	c.id, c.leaf, c.pair, c.pem = id, leaf, pair, chain
	return nil
}

// renewAt is when two thirds of the certificate's life have passed.
func (c *credential) renewAt() time.Time {
	return c.leaf.NotBefore.Add(c.leaf.NotAfter.Sub(c.leaf.NotBefore) * 2 / 3)
}
