// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	"gitlab.com/ampora/ampora/shared/identity"
)

func tokenTruncated(b *bad) {
	secret := b.s.Issue().GetSecret()
	truncated := secret[:len(secret)-3]
	counted, unchanged := b.counted(), b.unchanged()

	upgrading := b.stranger().Bearing(truncated)
	_, err := upgrading.Dial(b.Context())
	b.refused(err, b.status())
	b.boxed(upgrading)
	answer, err := b.stranger().Bearing(truncated).Post(b.Context(), rawopamp.Hello(rawopamp.NewUID(), "nobody"))
	if err != nil || answer.Status != b.status() {
		b.Errorf("the poll was answered %v, %v", answer, err)
	}
	_, err = b.stranger().Enrol(b.Context(), truncated)
	b.refused(err, b.status())
	counted("a damaged copy of a token")

	path := file(b.T, b.s, b.Name()[len("TestBadInput/"+string(b.flavour)+"/"):], truncated)
	got := b.s.CLI("enroll", "--server", "https://"+b.s.OpAMP, "--ca-file", b.s.CAFile, "--token-file", path, "--out-dir", b.s.Dir+"/none")
	if got.Code != b.exit() {
		b.Errorf("amporactl enroll: exit code %d, want %d: %s", got.Code, b.exit(), got.Stderr)
	}
	unchanged(0)
}

// refusedToken is what a well-formed token meets that is no good.
func (b *bad) refusedToken(secret string, refusals int) {
	b.Helper()
	counted, unchanged := b.counted(), b.unchanged()
	_, err := b.stranger().Bearing(secret).Dial(b.Context())
	b.refused(err, b.status())
	b.boxed(b.stranger().Bearing(secret)) // the token, wherever it comes from
	counted()
	if !b.s.Logged("call failed", b.reason()) {
		b.Errorf("the log does not say %s", b.reason())
	}
	unchanged(refusals)
	if refusals == 0 {
		return
	}
	if n := b.s.Database.Count(b, fmt.Sprintf("SELECT count(*) FROM audit_refusals WHERE action = 'agent.enrol' AND reason = '%s'", b.reason())); n == 0 {
		b.Errorf("no refusal with reason %s is recorded", b.reason())
	}
}

func tokenUnknown(b *bad) {
	b.refusedToken(identity.NewToken(identity.BootstrapToken).Reveal(), 0)
}

func tokenExpired(b *bad) {
	issued := b.s.Issue()
	past := map[rig.Flavour]string{rig.Development: "1", rig.Production: "now() - interval '1 second'"}[b.flavour]
	b.s.Database.Exec(b, fmt.Sprintf("UPDATE bootstrap_tokens SET expires_at = %s WHERE id = '%s'", past, issued.GetToken().GetId()))
	b.refusedToken(issued.GetSecret(), 1)
}

func tokenRevoked(b *bad) {
	issued := b.s.Issue()
	b.s.Do("tokens", "revoke", issued.GetToken().GetId())
	b.refusedToken(issued.GetSecret(), 1)
}

func tokenReused(b *bad) {
	issued := b.s.Issue()
	certificate, err := b.stranger().Enrol(b.Context(), issued.GetSecret())
	if err != nil {
		b.Fatal(err)
	}
	conn, _ := b.greet(b.stranger().With(certificate), rawopamp.NewUID())
	defer conn.Close()
	b.s.AwaitOnline(b.s.Token(issued.GetToken().GetId()).GetAgentId())
	b.refusedToken(issued.GetSecret(), 1)
}

// alert expects the TLS handshake to end with an alert.
func (b *bad) alert(peer rawopamp.Peer) {
	b.Helper()
	conn, err := peer.Dial(b.Context())
	if err == nil {
		_ = conn.Close()
		b.Fatal("the certificate was admitted")
	}
	if _, answered := errors.AsType[*rawopamp.StatusError](err); answered || !strings.Contains(err.Error(), "remote error: tls") {
		b.Errorf("the end was %q, want a TLS alert", err)
	}
}

func (b *bad) badCertificate(certificate *tls.Certificate, words ...string) {
	b.Helper()
	counted, unchanged := b.counted(), b.unchanged()
	b.alert(b.stranger().With(certificate))
	counted(words...)
	unchanged(0)
}

func certForeignCA(b *bad) {
	certificate, _, _ := b.enrolled()
	b.badCertificate(rig.NewAuthority(b).Agent(b, certificate.Leaf, time.Now().Add(time.Hour)), `"serial"`, `"issuer"`)
}

func certExpired(b *bad) {
	certificate, _, _ := b.enrolled()
	expired := b.s.StolenAuthority("default").Agent(b, certificate.Leaf, time.Now().Add(-time.Minute))
	b.badCertificate(expired, "expired")
}

func certOtherTenant(b *bad) {
	other := rig.NewServer(b, rig.Development)
	other.Env["AMPORA_TENANT"] = "other"
	if b.flavour == rig.Production {
		other.Env["AMPORA_TRUST_DOMAIN"] = b.s.Env["AMPORA_TRUST_DOMAIN"]
	}
	other.Start()
	certificate, err := other.Stranger().Enrol(b.Context(), other.Issue().GetSecret())
	if err != nil {
		b.Fatal(err)
	}
	if !strings.Contains(certificate.Leaf.URIs[0].Path, "/tenant/other/") {
		b.Fatalf("the certificate names %s", certificate.Leaf.URIs[0])
	}
	b.badCertificate(certificate)
}
