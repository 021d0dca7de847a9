// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package kmstest holds key services to one suite, and starts those that can be had on any machine: a token of SoftHSM
// and the transit engine of Vault. Both are real; what makes them slow or takes them away stands between them and us.
//
// What it needs is installed by infra/dev/tools.sh softhsm2 vaulttransit. If it is missing, tests fail.
package kmstest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Backend is a key service that tests may trouble.
type Backend struct {
	Driver kms.Driver
	// URI of the service.
	URI string
	// Missing is a key's URI that is well-formed and names nothing.
	Missing string
	// Away takes the service away until it is called with false, and Slow makes it take so long for an answer.
	Away func(away bool)
	Slow func(by time.Duration)
}

// Open opens the services anew, as a start of the program does.
func (b Backend) Open(t testing.TB, limit time.Duration) *kms.Services {
	t.Helper()
	return b.OpenLogging(t, limit, slog.New(slog.DiscardHandler))
}

// OpenLogging is Open with a log.
func (b Backend) OpenLogging(t testing.TB, limit time.Duration, log *slog.Logger) *kms.Services {
	t.Helper()
	services, err := kms.Open(kms.Config{Home: b.URI, Limit: limit}, kms.Deps{Drivers: []kms.Driver{b.Driver}, Log: log, Meter: noop.Meter{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(services.Close)
	return services
}

// patience is a limit that no healthy service of a test machine needs.
const patience = 15 * time.Second

// Run holds a key service to what package kms relies on.
func Run(t *testing.T, b Backend) {
	for _, algorithm := range []kms.Algorithm{kms.ECDSAP256, kms.RSA3072} {
		t.Run("makes and opens "+string(algorithm), func(t *testing.T) { b.makesAndOpens(t, algorithm) })
	}
	t.Run("a key that is not there", b.missing)
	t.Run("a key that is another", b.another)
	t.Run("away and back", b.awayAndBack)
	t.Run("slow", b.slow)
	t.Run("slower than the limit", b.tooSlow)
}

func (b Backend) makesAndOpens(t *testing.T, algorithm kms.Algorithm) {
	services := b.Open(t, patience)
	key := Create(t, services, algorithm)
	switch public := key.Public.(type) {
	case *ecdsa.PublicKey:
		if algorithm != kms.ECDSAP256 || public.Curve.Params().BitSize != 256 {
			t.Fatalf("made a key on %s", public.Curve.Params().Name)
		}
	case *rsa.PublicKey:
		if algorithm != kms.RSA3072 || public.N.BitLen() != 3072 {
			t.Fatalf("made a key of %d bits", public.N.BitLen())
		}
	default:
		t.Fatalf("made a %T", public)
	}
	again := Create(t, services, algorithm)
	if again.URI == key.URI || again.Public.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public) {
		t.Error("two keys are one")
	}
	// A new start knows the URI and the certificate, no more.
	restarted := b.Open(t, patience)
	found, err := restarted.Find(t.Context(), key.URI)
	if err != nil || !found.Public.(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public) {
		t.Errorf("found %v, %v", found, err)
	}
	for _, services := range []*kms.Services{services, restarted} {
		if err := certifies(services.Signer(key.URI, key.Public)); err != nil {
			t.Error(err)
		}
	}
	var many sync.WaitGroup
	for range 16 {
		many.Go(func() {
			if err := Sign(restarted.Signer(key.URI, key.Public)); err != nil {
				t.Error(err)
			}
		})
	}
	many.Wait()
}

// certifies has a key sign a certificate of its own and a revocation list, and has others verify them.
func certifies(signer crypto.Signer) error {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		return fmt.Errorf("sign a certificate: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	list, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour)}, certificate, signer)
	if err != nil {
		return fmt.Errorf("sign a list: %w", err)
	}
	parsed, err := x509.ParseRevocationList(list)
	if err != nil {
		return err
	}
	return parsed.CheckSignatureFrom(certificate)
}

func (b Backend) missing(t *testing.T) {
	services := b.Open(t, patience)
	key := Create(t, services, kms.ECDSAP256)
	began := time.Now()
	if _, err := services.Find(t.Context(), b.Missing); !fault.Is(err, kms.ReasonUnavailable) {
		t.Errorf("found: %v", err)
	}
	if err := Sign(services.Signer(b.Missing, key.Public)); !fault.Is(err, kms.ReasonUnavailable) {
		t.Errorf("signed: %v", err)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it was looked for again and again, for %s", took)
	}
	for _, wrong := range []string{"", "nonsense", "nosuchscheme:name=x", b.Driver.Scheme + ":nosuchattribute=x", b.Driver.Scheme + ":pin-value=1234"} {
		_, err := services.Find(t.Context(), wrong)
		if err == nil || strings.Contains(err.Error(), "1234") {
			t.Errorf("%q: %v", wrong, err)
		}
	}
	// One key that cannot be had says nothing of the others.
	if err := Sign(services.Signer(key.URI, key.Public)); err != nil {
		t.Error(err)
	}
	if state := services.States()[0]; !state.Known || !state.Up {
		t.Errorf("the service is %+v", state)
	}
}

func (b Backend) another(t *testing.T) {
	services := b.Open(t, patience)
	key, other := Create(t, services, kms.ECDSAP256), Create(t, services, kms.RSA3072)
	if err := Sign(services.Signer(key.URI, other.Public)); !fault.Is(err, kms.ReasonWrongKey) {
		t.Errorf("signed: %v", err)
	}
}

func (b Backend) awayAndBack(t *testing.T) {
	var log bytes.Buffer
	const limit = 2 * time.Second
	b.Away(true)
	defer b.Away(false)
	services := b.OpenLogging(t, limit, slog.New(slog.NewTextHandler(&log, nil)))
	if state := services.States()[0]; state.Known || state.Scheme != b.Driver.Scheme || !state.Home {
		t.Errorf("nothing was asked, and the service is %+v", state)
	}
	b.Away(false)
	key := Create(t, services, kms.ECDSAP256)
	signer := services.Signer(key.URI, key.Public)
	if err := Sign(signer); err != nil {
		t.Fatal(err)
	}
	b.Away(true)
	for range 3 {
		began := time.Now()
		if err := Sign(signer); !fault.Is(err, kms.ReasonUnavailable) || fault.From(err).Kind != fault.Unavailable {
			t.Errorf("while it is away: %v", err)
		}
		if took := time.Since(began); took > limit+time.Second {
			t.Errorf("it took %s to say so", took)
		}
	}
	if state := services.States()[0]; state.Up {
		t.Errorf("it is away, and the service is %+v", state)
	}
	b.Away(false)
	if err := Sign(signer); err != nil {
		t.Errorf("it is back: %v", err)
	}
	if state := services.States()[0]; !state.Up {
		t.Errorf("it is back, and the service is %+v", state)
	}
	if away, back := strings.Count(log.String(), "cannot be used"), strings.Count(log.String(), `msg="the key service answers"`); away != 1 || back != 2 {
		t.Errorf("said %d times that it is away and %d times that it answers:\n%s", away, back, log.String())
	}
}

func (b Backend) slow(t *testing.T) {
	services := b.Open(t, patience)
	key := Create(t, services, kms.ECDSAP256)
	b.Slow(500 * time.Millisecond)
	defer b.Slow(0)
	began := time.Now()
	if err := Sign(services.Signer(key.URI, key.Public)); err != nil {
		t.Error(err)
	}
	if time.Since(began) < 500*time.Millisecond {
		t.Error("it was not slow: the test shows nothing")
	}
}

func (b Backend) tooSlow(t *testing.T) {
	const limit, delay, crowd = time.Second, 4 * time.Second, 50
	services := b.Open(t, limit)
	key := Create(t, services, kms.ECDSAP256)
	signer := services.Signer(key.URI, key.Public)
	if err := Sign(signer); err != nil {
		t.Fatal(err)
	}
	b.Slow(delay)
	began := time.Now()
	var many sync.WaitGroup
	for range crowd {
		many.Go(func() {
			if err := Sign(signer); !fault.Is(err, kms.ReasonUnavailable) {
				t.Errorf("slower than the limit: %v", err)
			}
		})
	}
	many.Wait()
	if took := time.Since(began); took > 2*limit {
		t.Errorf("the last waited for %s", took)
	}
	b.Slow(0)
	time.Sleep(delay) // what hangs returns
	if err := Sign(signer); err != nil {
		t.Errorf("fast again: %v", err)
	}
}

// Create makes a key with a name like ours.
func Create(t testing.TB, services *kms.Services, algorithm kms.Algorithm) kms.Key {
	t.Helper()
	key, err := services.Create(context.Background(), "ampora-test-"+strings.ToLower(rand.Text()[:12]), algorithm)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Sign has a key sign something, and verifies it.
func Sign(signer crypto.Signer) error {
	digest := sha256.Sum256([]byte(rand.Text()))
	signature, err := signer.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return err
	}
	switch public := signer.Public().(type) {
	case *ecdsa.PublicKey:
		if !ecdsa.VerifyASN1(public, digest[:], signature) {
			return fmt.Errorf("the signature does not verify")
		}
		return nil
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature)
	default:
		return fmt.Errorf("a %T", public)
	}
}
