// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/drivers"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
	"gitlab.com/ampora/ampora/control/internal/revocation"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/fault"
)

// inVault is a configuration with the authorities' keys in a Vault that the test may take away.
func inVault(t *testing.T) (Config, kmstest.Backend) {
	t.Helper()
	vault := kmstest.Vault(t, time.Hour)
	b := vault.Backend(t, drivers.All(), ";token-file="+vault.TokenFile(t))
	config := testConfig(keys(newMasterKey()))
	config.PKI.KMS, config.PKI.KMSTimeout = b.URI, 2*time.Second
	return config, b
}

func withDrivers(d *Deps) { d.KeyServices = drivers.All() }

// TestTheKeyServiceIsAway: what needs no signature goes on, a restart included; what needs one is refused, costs nobody a
// token, and works when the key service is back.
func TestTheKeyServiceIsAway(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		config, vault := inVault(t)
		b := newBus(t)
		p := startAs(t, config, db, b, time.Now, withDrivers)
		c := newCrowd(t, p, b, 1)
		issued, err := p.tokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		csr := newCSR(t)
		enrol := func(at *plane) error {
			_, err := at.Gateways().Enroll(t.Context(), &internalv1.EnrollRequest{Token: issued.GetSecret(), CsrPem: csr, Method: internalv1.EnrollmentMethod_ENROLLMENT_METHOD_EST, GatewayId: "g"})
			return err
		}
		list := revocationList(t, p)

		vault.Away(true)
		defer vault.Away(false)
		if err := enrol(p); connect.CodeOf(err) != connect.CodeUnavailable || !strings.Contains(err.Error(), "key service") {
			t.Errorf("enrolled: %v", err)
		}
		p.stop()
		p = startAs(t, config, db, b, time.Now, withDrivers)
		control := p.Gateways() // beside that of the crowd, which renews its lease meanwhile
		for _, a := range c.agents {
			again := proto.Clone(a.claimed).(*internalv1.Claim)
			again.HolderEpoch = a.epoch
			if _, err := control.ClaimSessions(t.Context(), &internalv1.ClaimSessionsRequest{GatewayId: "g", BootId: c.boot, Claims: []*internalv1.Claim{again}}); err != nil {
				t.Errorf("claimed: %v", err)
			}
		}
		if _, err := control.GetTrust(t.Context(), &internalv1.GetTrustRequest{}); err != nil {
			t.Errorf("trust: %v", err)
		}
		if after := revocationList(t, p); !slices.Equal(after, list) {
			t.Error("the list is another")
		}
		if err := enrol(p); connect.CodeOf(err) != connect.CodeUnavailable {
			t.Errorf("enrolled after a restart: %v", err)
		}

		records, _, err := db.AuditRecords(t.Context(), "default", issued.GetToken().GetId(), fleet.Page{Size: 10})
		if err != nil || !slices.ContainsFunc(records, func(r fleet.AuditRecord) bool { return r.RefusalReason == pki.ReasonKMSUnavailable }) {
			t.Errorf("on record is %+v, %v", records, err)
		}
		system, err := p.system.GetSystem(t.Context(), &amporav1.GetSystemRequest{})
		if err != nil || len(system.GetKeyServices()) != 1 || system.GetKeyServices()[0].GetState() != amporav1.KeyServiceState_KEY_SERVICE_STATE_AWAY {
			t.Errorf("shown is %v, %v", system.GetKeyServices(), err)
		}

		vault.Away(false)
		if err := enrol(p); err != nil {
			t.Errorf("the key service is back: %v", err)
		}
	})
}

// revocationList waits for the first list, and returns it as anybody gets it.
func revocationList(t *testing.T, p *plane) (der []byte) {
	t.Helper()
	eventually(t, "a revocation list", func() error {
		w := httptest.NewRecorder()
		revocation.Handler(p.lists, p.answers).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/pki/crl.der", nil))
		_, err := x509.ParseRevocationList(w.Body.Bytes())
		der = w.Body.Bytes()
		return err
	})
	return der
}

// TestAFirstStartWithoutTheKeyService makes the authority when it comes.
func TestAFirstStartWithoutTheKeyService(t *testing.T) {
	t.Parallel()
	config, vault := inVault(t)
	vault.Away(true)
	defer vault.Away(false)
	p := startAs(t, config, backends["sqlite"](t), newBus(t), time.Now, withDrivers)
	certificate, err := p.controlCertificate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if shown(t, certificate) != nil {
		t.Error("the control plane shows a certificate")
	}
	vault.Away(false)
	eventually(t, "the authority", func() error {
		_, err := p.authority.Bundle(t.Context(), "default")
		return err
	})
}

// shown is the certificate of a handshake, nil if that fails.
func shown(t *testing.T, certificate certified) *x509.Certificate {
	t.Helper()
	ours, theirs := net.Pipe()
	defer func() { _ = errors.Join(ours.Close(), theirs.Close()) }()
	go func() { _ = tls.Server(ours, &tls.Config{GetCertificate: certificate}).HandshakeContext(t.Context()) }()
	client := tls.Client(theirs, &tls.Config{InsecureSkipVerify: true})
	if client.HandshakeContext(t.Context()) != nil {
		return nil
	}
	return client.ConnectionState().PeerCertificates[0]
}

// TestAStartShowsTheFormerCertificate: gateways find the control plane while the key service is away.
func TestAStartShowsTheFormerCertificate(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		config, vault := inVault(t)
		show := func(now time.Time) *x509.Certificate {
			t.Helper()
			clock := func() time.Time { return now }
			certificate, err := startAs(t, config, db, newBus(t), clock, withDrivers).controlCertificate(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return shown(t, certificate)
		}
		now := time.Now()
		first := show(now)
		vault.Away(true)
		defer vault.Away(false)
		if kept := show(now); kept == nil || !kept.Equal(first) {
			t.Errorf("shown %v", kept)
		}
		late := now.Add(91 * 24 * time.Hour)
		if kept := show(late); kept != nil {
			t.Errorf("shown until %s, at %s", kept.NotAfter, late)
		}
		sealed, err := db.Setting(t.Context(), settingCertificate)
		if err != nil || strings.Contains(string(sealed), "PRIVATE KEY") {
			t.Errorf("it is kept in clear, or not: %v", err)
		}
	})
}

// TestKeyServicesThatCannotBe are refused before anything is opened, and what is said holds no secret.
func TestKeyServicesThatCannotBe(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*PKI){
		"AMPORA_PKI_KMS: it is not of the form":     func(p *PKI) { p.KMS = "hunter2" },
		"AMPORA_PKI_KMS: \"kmip\" is none of":       func(p *PKI) { p.KMS = "kmip:server=x" },
		"AMPORA_PKI_KMS: pkcs11: pin-value must":    func(p *PKI) { p.KMS = "pkcs11:module-path=/m.so;token=x?pin-value=hunter2" },
		"AMPORA_PKI_KMS_OTHERS: awskms is there":    func(p *PKI) { p.KMS, p.KMSOthers = "awskms:region=eu-west-1", []string{"awskms:region=eu-west-2"} },
		"AMPORA_PKI_KMS_OTHERS: azurekms: vault is": func(p *PKI) { p.KMSOthers = []string{"azurekms:hsm=true"} },
		"AMPORA_PKI_KMS: cloudkms: it must be of":   func(p *PKI) { p.KMS = "cloudkms:projects/p" },
	} {
		config := testConfig(keys(newMasterKey()))
		edit(&config.PKI)
		err := config.PKI.CheckKeyServices(drivers.All())
		if err == nil || !strings.HasPrefix(err.Error(), name) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	config := testConfig(keys(newMasterKey()))
	config.PKI.KMS = "awskms:region=eu-west-1"
	if err := config.PKI.CheckKeyServices(nil); err == nil || !strings.Contains(err.Error(), "built without key services") {
		t.Errorf("without drivers: %v", err)
	}
}

// TestAJoinTokenNeedsTheRootOnly: where the key service is away, the root that is there is enough.
func TestAJoinTokenNeedsTheRootOnly(t *testing.T) {
	t.Parallel()
	config, vault := inVault(t)
	j := JoinToken{
		Database: Database{URL: conf.NewSecret("sqlite:" + filepath.Join(t.TempDir(), "ampora.db"))}, Keys: config.Keys, PKI: config.PKI,
		KeyServices: drivers.All(), Gateway: "edge-1", Now: time.Now(), Log: slog.New(slog.DiscardHandler),
	}
	if _, err := Migrate(t.Context(), j.Database, j.Log); err != nil {
		t.Fatal(err)
	}
	vault.Away(true)
	defer vault.Away(false)
	if _, _, err := IssueJoinToken(t.Context(), j); !fault.Is(err, pki.ReasonKMSUnavailable) {
		t.Errorf("without a root: %v", err)
	}
	vault.Away(false)
	if _, _, err := IssueJoinToken(t.Context(), j); err != nil {
		t.Error(err)
	}
	vault.Away(true)
	if _, _, err := IssueJoinToken(t.Context(), j); err != nil {
		t.Errorf("with a root: %v", err)
	}
}
