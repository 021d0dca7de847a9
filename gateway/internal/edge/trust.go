// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"context"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/identity"
)

// TrustPoll is how often the snapshot is asked for. A revocation must cut the live
// session within 5 s, also if what the control plane says over the bus is lost.
const TrustPoll = 2 * time.Second

// Snapshot is what the gateway verifies with: the roots of its tenants, the serials
// that are revoked, and the keys that sign downlinks. It never changes.
type Snapshot struct {
	Version      string
	TrustDomain  string
	DownlinkKeys map[string]ed25519.PublicKey
	tenants      map[identity.TenantID]*tenantTrust
	roots        []*x509.Certificate
	hints        *x509.CertPool
}

type tenantTrust struct {
	roots         *x509.CertPool
	intermediates *x509.CertPool
	revoked       map[identity.Serial]struct{}
}

// NewSnapshot reads the answer of GetTrust. One unreadable tenant refuses the whole:
// half a snapshot could admit what the other half revokes.
func NewSnapshot(response *internalv1.GetTrustResponse) (*Snapshot, error) {
	s := &Snapshot{
		Version: response.GetVersion(), TrustDomain: response.GetTrustDomain(),
		DownlinkKeys: make(map[string]ed25519.PublicKey),
		tenants:      make(map[identity.TenantID]*tenantTrust), hints: x509.NewCertPool(),
	}
	for id, key := range response.GetDownlinkKeys() {
		if len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("downlink key %q has %d bytes", id, len(key))
		}
		s.DownlinkKeys[id] = ed25519.PublicKey(key)
	}
	for _, tenant := range response.GetTenants() {
		if err := s.add(tenant); err != nil {
			return nil, fmt.Errorf("trust of tenant %q: %w", tenant.GetTenant(), err)
		}
	}
	return s, nil
}

func (s *Snapshot) add(from *internalv1.TenantTrust) error {
	id, err := identity.ParseTenantID(from.GetTenant())
	if err != nil {
		return err
	}
	roots, err := certificates(from.GetRootsPem())
	if err != nil {
		return err
	}
	intermediates, err := certificates(from.GetIntermediatesPem())
	if err != nil {
		return err
	}
	tenant := &tenantTrust{roots: x509.NewCertPool(), intermediates: x509.NewCertPool(), revoked: make(map[identity.Serial]struct{})}
	for _, root := range roots {
		tenant.roots.AddCert(root)
		s.hints.AddCert(root)
	}
	for _, intermediate := range intermediates {
		tenant.intermediates.AddCert(intermediate)
		s.hints.AddCert(intermediate) // a Go client matches hints with issuers of its own chain alone
	}
	for _, serial := range from.GetRevokedSerials() {
		tenant.revoked[identity.Serial(serial)] = struct{}{}
	}
	s.roots = append(s.roots, roots...)
	s.tenants[id] = tenant
	return nil
}

// Revoked says whether the serial is on the tenant's list. A tenant that is not in the
// snapshot has nothing that is not revoked.
func (s *Snapshot) Revoked(tenant identity.TenantID, serial identity.Serial) bool {
	trust := s.tenants[tenant]
	if trust == nil {
		return true
	}
	_, revoked := trust.revoked[serial]
	return revoked
}

func certificates(text []byte) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a PEM block is %q, not a certificate", block.Type)
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		found = append(found, certificate)
	}
	return found, nil
}

// Trust keeps the current [Snapshot].
type Trust struct {
	control internalv1connect.GatewayServiceClient
	log     *slog.Logger
	limit   time.Duration
	clock   func() time.Time
	onNew   func(*Snapshot)
	current atomic.Pointer[held]
}

type held struct {
	snapshot *Snapshot
	at       time.Time
}

// TrustConfig is what a [Trust] needs.
type TrustConfig struct {
	Control internalv1connect.GatewayServiceClient
	Log     *slog.Logger
	Clock   func() time.Time
	// Limit is the age from which a snapshot proves nothing any more.
	Limit time.Duration
	// OnNew is called with each snapshot that differs from the one before.
	OnNew func(*Snapshot)
}

// NewTrust makes a Trust that holds nothing yet.
func NewTrust(c TrustConfig) *Trust {
	return &Trust{control: c.Control, log: c.Log, clock: c.Clock, limit: c.Limit, onNew: c.OnNew}
}

var (
	errNoTrust    = errors.New("no trust snapshot yet")
	errStaleTrust = errors.New("the trust snapshot is too old")
)

// Current returns the snapshot, or [ErrUnavailable] if there is none or it is older
// than the limit: whoever cannot learn of revocations must not admit anybody.
func (t *Trust) Current() (*Snapshot, error) {
	held := t.current.Load()
	switch {
	case held == nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errNoTrust)
	case t.clock().Sub(held.at) > t.limit:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, errStaleTrust)
	}
	return held.snapshot, nil
}

// Age is how old the snapshot is, and whether there is one.
func (t *Trust) Age() (time.Duration, bool) {
	held := t.current.Load()
	if held == nil {
		return 0, false
	}
	return t.clock().Sub(held.at), true
}

// Run asks for the snapshot until the context ends.
func (t *Trust) Run(ctx context.Context) error {
	ticker := time.NewTicker(TrustPoll)
	defer ticker.Stop()
	for {
		if err := t.Refresh(ctx); err != nil && ctx.Err() == nil {
			t.log.WarnContext(ctx, "the trust snapshot could not be refreshed", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// Refresh asks for the snapshot once.
func (t *Trust) Refresh(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, TrustPoll)
	defer cancel()
	asked := t.clock()
	before := t.current.Load()
	request := &internalv1.GetTrustRequest{}
	if before != nil {
		request.Version = before.snapshot.Version
	}
	response, err := t.control.GetTrust(ctx, request)
	if err != nil {
		return err
	}
	if before != nil && response.GetVersion() == before.snapshot.Version {
		t.current.Store(&held{snapshot: before.snapshot, at: asked})
		return nil
	}
	snapshot, err := NewSnapshot(response)
	if err != nil {
		return err
	}
	t.current.Store(&held{snapshot: snapshot, at: asked})
	t.onNew(snapshot)
	return nil
}
