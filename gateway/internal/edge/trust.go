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
	"unique"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/identity"
)

// TrustPoll is how often the snapshot is asked for. A revocation must cut the live
// session within 5 s, also if what the control plane says over the bus is lost.
const TrustPoll = 2 * time.Second

// wholeAge is how long what is revoked is added to before it is asked for as a whole,
// without what has expired meanwhile.
const wholeAge = time.Hour

// maxPages bounds the answers over which the control plane spreads one snapshot.
const maxPages = 10_000

// Snapshot is what the gateway verifies with: the roots of its tenants, the serials
// that are revoked, and the keys that sign downlinks. It never changes.
type Snapshot struct {
	Version     string
	TrustDomain string
	// Generation is how many changes of signing keys it knows of.
	Generation   int64
	line         string
	DownlinkKeys map[string]ed25519.PublicKey
	tenants      map[identity.TenantID]*tenantTrust
	roots        []*x509.Certificate
	hints        *x509.CertPool
}

type tenantTrust struct {
	roots         *x509.CertPool
	intermediates *x509.CertPool
	issuers       map[Issuer]struct{}
	revoked       revocations
}

// Issuer names a certificate that signs others. It is a word wide, however many hold it.
type Issuer = unique.Handle[identity.Fingerprint]

func issuerOf(c *x509.Certificate) Issuer { return unique.Make(identity.FingerprintOf(c.Raw)) }

// next reads an answer of GetTrust, which adds to what is revoked in s, nil if that is
// nothing. One unreadable tenant refuses the whole: half a snapshot could admit what the
// other half revokes.
func (s *Snapshot) next(response *internalv1.GetTrustResponse) (*Snapshot, error) {
	next := &Snapshot{
		Version: response.GetVersion(), TrustDomain: response.GetTrustDomain(), Generation: response.GetGeneration(), line: response.GetLine(),
		DownlinkKeys: make(map[string]ed25519.PublicKey),
		tenants:      make(map[identity.TenantID]*tenantTrust), hints: x509.NewCertPool(),
	}
	for id, key := range response.GetDownlinkKeys() {
		if len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("downlink key %q has %d bytes", id, len(key))
		}
		next.DownlinkKeys[id] = ed25519.PublicKey(key)
	}
	for _, tenant := range response.GetTenants() {
		if err := next.add(tenant, s.revoked(tenant)); err != nil {
			return nil, fmt.Errorf("trust of tenant %q: %w", tenant.GetTenant(), err)
		}
	}
	return next, nil
}

// revoked is what an answer about a tenant adds to.
func (s *Snapshot) revoked(answer *internalv1.TenantTrust) revocations {
	if s == nil || answer.GetWhole() || s.tenants[identity.TenantID(answer.GetTenant())] == nil {
		return revocations{}
	}
	return s.tenants[identity.TenantID(answer.GetTenant())].revoked
}

func (s *Snapshot) add(from *internalv1.TenantTrust, before revocations) error {
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
	tenant := &tenantTrust{roots: x509.NewCertPool(), intermediates: x509.NewCertPool(), issuers: make(map[Issuer]struct{}), revoked: before.and(from.GetRevokedSerials(), from.GetRevocation())}
	for _, root := range roots {
		tenant.roots.AddCert(root)
		tenant.issuers[issuerOf(root)] = struct{}{}
		s.hints.AddCert(root)
	}
	for _, intermediate := range intermediates {
		tenant.intermediates.AddCert(intermediate)
		tenant.issuers[issuerOf(intermediate)] = struct{}{}
		s.hints.AddCert(intermediate) // a Go client matches hints with issuers of its own chain alone
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
	return trust.revoked.has(serial)
}

// Issues says whether the issuer may certify agents of the tenant: a signing key that is
// retired may not.
func (s *Snapshot) Issues(tenant identity.TenantID, issuer Issuer) bool {
	trust := s.tenants[tenant]
	if trust == nil {
		return false
	}
	_, issues := trust.issuers[issuer]
	return issues
}

// known is what the control plane need not tell again.
func (s *Snapshot) known() *internalv1.GetTrustRequest {
	if s == nil {
		return &internalv1.GetTrustRequest{}
	}
	r := &internalv1.GetTrustRequest{Version: s.Version, Line: s.line, Revocations: make(map[string]int64, len(s.tenants))}
	for id, tenant := range s.tenants {
		r.Revocations[string(id)] = tenant.revoked.number
	}
	return r
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
	whole    time.Time // when it was last asked for as a whole
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
	errEndless    = errors.New("the control plane has no end of what is revoked")
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

// Generation is how many changes of signing keys the snapshot knows of; 0 without one.
func (t *Trust) Generation() int64 {
	held := t.current.Load()
	if held == nil {
		return 0
	}
	return held.snapshot.Generation
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

// Refresh asks for the snapshot once: for what is new since the last one, and from time
// to time for all of it.
func (t *Trust) Refresh(ctx context.Context) error {
	asked := t.clock()
	before := t.current.Load()
	if before == nil || asked.Sub(before.whole) >= wholeAge {
		before = &held{whole: asked}
	}
	snapshot, err := t.ask(ctx, before.snapshot)
	if err != nil {
		return err
	}
	t.current.Store(&held{snapshot: snapshot, at: asked, whole: before.whole})
	if snapshot != before.snapshot {
		t.onNew(snapshot)
	}
	return nil
}

// ask returns the snapshot that follows the former one, which may be none, or that one if
// nothing is new.
func (t *Trust) ask(ctx context.Context, former *Snapshot) (*Snapshot, error) {
	snapshot := former
	for range maxPages {
		response, err := t.question(ctx, snapshot)
		if err != nil {
			return nil, err
		}
		if former != nil && response.GetVersion() == former.Version {
			return former, nil
		}
		if snapshot, err = snapshot.next(response); err != nil {
			return nil, err
		}
		if snapshot.Version != "" {
			return snapshot, nil
		}
	}
	return nil, errEndless
}

func (t *Trust) question(ctx context.Context, known *Snapshot) (*internalv1.GetTrustResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, TrustPoll)
	defer cancel()
	return t.control.GetTrust(ctx, known.known())
}
