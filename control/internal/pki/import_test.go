// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
	"gitlab.com/ampora/ampora/shared/fault"
)

// corporate makes authorities as companies have them, with OpenSSL.
type corporate struct {
	t   *testing.T
	dir string
}

const (
	ecKey  = "EC -pkeyopt ec_paramgen_curve:P-256"
	rsaKey = "RSA -pkeyopt rsa_keygen_bits:3072"

	rootExtensions         = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash"
	intermediateExtensions = "basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash"
)

func newCorporate(t *testing.T) corporate { return corporate{t, t.TempDir()} }

func (c corporate) path(name string) string { return filepath.Join(c.dir, name) }

// make makes the certificate of a name, signed by another or by itself, for so many days.
func (c corporate) make(name, key, extensions, by, days string) {
	c.t.Helper()
	write(c.t, c.dir, name+".cnf", []byte("[req]\ndistinguished_name=dn\n[dn]\n[ext]\n"+extensions+"\n"))
	openssl(c.t, append([]string{"genpkey", "-out", c.path(name + ".key"), "-algorithm"}, strings.Fields(key)...)...)
	args := []string{"req", "-new", "-x509", "-config", c.path(name + ".cnf"), "-extensions", "ext", "-key", c.path(name + ".key"), "-subj", "/O=Corp/CN=" + name, "-days", days, "-out", c.path(name + ".pem")}
	if by != name {
		args = append(args, "-CA", c.path(by+".pem"), "-CAkey", c.path(by+".key"))
	}
	openssl(c.t, args...)
}

func (c corporate) root(key, extensions string) {
	c.t.Helper()
	c.make("root", key, extensions, "root", "3650")
}

func (c corporate) intermediate(extensions string) {
	c.t.Helper()
	c.make("middle", ecKey, extensions, "root", "365")
}

// read reads certificates and the key of the first as the command does.
func (c corporate) read(names ...string) pki.Import {
	c.t.Helper()
	var text []byte
	for _, name := range names {
		text = append(text, c.bytes(name+".pem")...)
	}
	chain, err := pki.ReadCertificates(text)
	if err != nil {
		c.t.Fatal(err)
	}
	key, err := pki.ReadKey(c.bytes(names[0]+".key"), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	return pki.Import{Tenant: acme, Chain: chain, Key: key, Now: time.Now()}
}

func (c corporate) bytes(name string) []byte {
	c.t.Helper()
	text, err := os.ReadFile(c.path(name))
	if err != nil {
		c.t.Fatal(err)
	}
	return text
}

// certifies has the authority issue a leaf, and OpenSSL verify it with the corporate root alone.
func (c corporate) certifies(authority *pki.Authority) pki.Leaf {
	c.t.Helper()
	leaf, _ := issue(c.t, authority, request(c.t, acme, time.Now()))
	chain := write(c.t, c.dir, "chain.pem", leaf.ChainPEM)
	out := openssl(c.t, "verify", "-purpose", "sslclient", "-CAfile", c.path("root.pem"), "-untrusted", chain, chain)
	if !strings.HasSuffix(strings.TrimSpace(out), ": OK") {
		c.t.Errorf("openssl verify: %s", out)
	}
	list, err := authority.SignList(c.t.Context(), acme, leaf.KeyID, 1, []fleet.Revoked{{Serial: leaf.Serial, At: time.Now()}}, time.Now())
	if err != nil {
		c.t.Fatal(err)
	}
	crl := write(c.t, c.dir, "crl.pem", encode("X509 CRL", list.DER))
	out = opensslAnyway(c.t, "verify", "-crl_check", "-CRLfile", crl, "-CAfile", c.path("root.pem"), "-untrusted", chain, chain)
	if !strings.Contains(out, "certificate revoked") {
		c.t.Errorf("openssl verify, revoked: %s", out)
	}
	return leaf
}

func TestImportOfARoot(t *testing.T) {
	for name, key := range map[string]string{"EC": ecKey, "RSA": rsaKey} {
		t.Run(name, func(t *testing.T) {
			corp, store := newCorporate(t), &memory{}
			corp.root(key, rootExtensions)
			authority := open(t, store, policy)
			imported, err := authority.Import(t.Context(), corp.read("root"))
			if err != nil || !imported.Active || !imported.OCSP {
				t.Fatalf("imported %+v, %v", imported, err)
			}
			root, intermediate := store.key(t, acme, fleet.SigningKeyRoot), store.key(t, acme, fleet.SigningKeyIntermediate)
			if len(store.keys) != 2 || root.State != fleet.SigningKeyActive || intermediate.State != fleet.SigningKeyActive || intermediate.Parent != root.ID || len(root.SealedKey) == 0 {
				t.Errorf("stored %+v", store.keys)
			}
			corp.certifies(authority)
			corp.certifies(open(t, store, policy, acme)) // which makes nothing new
			if len(store.keys) != 2 {
				t.Errorf("%d keys", len(store.keys))
			}
		})
	}
}

func TestImportOfAnIntermediate(t *testing.T) {
	corp, store := newCorporate(t), &memory{}
	corp.root(rsaKey, rootExtensions+"\nextendedKeyUsage=clientAuth,serverAuth,OCSPSigning")
	corp.intermediate(intermediateExtensions + "\nnameConstraints=critical,permitted;URI:fleet.example")
	authority := open(t, store, policy)
	imported, err := authority.Import(t.Context(), corp.read("middle", "root"))
	if err != nil || !imported.Active || !imported.OCSP {
		t.Fatalf("imported %+v, %v", imported, err)
	}
	root, intermediate := store.key(t, acme, fleet.SigningKeyRoot), store.key(t, acme, fleet.SigningKeyIntermediate)
	if root.State != fleet.SigningKeyTrusted || len(root.SealedKey) != 0 || root.KeyURI != "" || intermediate.State != fleet.SigningKeyActive || intermediate.Parent != root.ID {
		t.Errorf("stored %+v", store.keys)
	}
	leaf := corp.certifies(authority)
	if leaf.KeyID != intermediate.ID {
		t.Error("another key signed")
	}
	if parse(t, leaf.CertificateDER).NotAfter.After(parse(t, intermediate.CertificateDER).NotAfter) {
		t.Error("the leaf outlives the authority")
	}
}

// TestImportBesideAnAuthority makes drafts, which are trusted and do not sign.
func TestImportBesideAnAuthority(t *testing.T) {
	corp, store := newCorporate(t), &memory{}
	corp.root(ecKey, rootExtensions)
	corp.intermediate(intermediateExtensions)
	authority := open(t, store, policy, acme)
	before, err := authority.ActiveKey(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	imported, err := authority.Import(t.Context(), corp.read("middle", "root"))
	if err != nil || imported.Active {
		t.Fatalf("imported %+v, %v", imported, err)
	}
	states := map[fleet.SigningKeyKind]fleet.SigningKeyState{}
	for _, key := range imported.Keys {
		states[key.Kind] = key.State
		if !key.ActivatedAt.IsZero() {
			t.Errorf("%s was activated at %s", key.ID, key.ActivatedAt)
		}
	}
	if states[fleet.SigningKeyIntermediate] != fleet.SigningKeyDraft || states[fleet.SigningKeyRoot] != fleet.SigningKeyTrusted {
		t.Errorf("the states are %v", states)
	}
	leaf, _ := issue(t, authority, request(t, acme, start))
	if leaf.KeyID != before || len(bundle(t, authority, acme).Roots) != 2 {
		t.Errorf("%s signs, and %d roots are trusted", leaf.KeyID, len(bundle(t, authority, acme).Roots))
	}
	if _, err := authority.Import(t.Context(), corp.read("middle", "root")); !fault.Is(err, pki.ReasonCAThere) {
		t.Errorf("again: %v", err)
	}
}

func TestImportFromOtherFiles(t *testing.T) {
	corp := newCorporate(t)
	corp.root(rsaKey, rootExtensions)
	corp.intermediate(intermediateExtensions)
	const password = "correct horse"
	secret := write(t, corp.dir, "password", []byte(password+"\n"))
	openssl(t, "pkcs12", "-export", "-inkey", corp.path("middle.key"), "-in", corp.path("middle.pem"), "-certfile", corp.path("root.pem"), "-passout", "file:"+secret, "-out", corp.path("new.pfx"))
	openssl(t, "pkcs12", "-export", "-legacy", "-inkey", corp.path("middle.key"), "-in", corp.path("middle.pem"), "-certfile", corp.path("root.pem"), "-passout", "file:"+secret, "-out", corp.path("old.pfx"))
	openssl(t, "pkcs8", "-topk8", "-in", corp.path("middle.key"), "-passout", "file:"+secret, "-out", corp.path("encrypted.key"))
	openssl(t, "ec", "-in", corp.path("middle.key"), "-out", corp.path("sec1.key"))

	plain := corp.read("middle", "root")
	for _, file := range []string{"new.pfx", "old.pfx"} {
		key, chain, err := pki.ReadPFX(corp.bytes(file), []byte(password))
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if !kms.Same(key.Public(), plain.Key.Public()) || !slices.EqualFunc(chain, plain.Chain, (*x509.Certificate).Equal) {
			t.Errorf("%s holds something else", file)
		}
		imported := plain
		imported.Key, imported.Chain = key, chain
		if _, err := open(t, &memory{}, policy).Import(t.Context(), imported); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, wrong := range []string{"", "wrong"} {
			if _, _, err := pki.ReadPFX(corp.bytes(file), []byte(wrong)); !fault.Is(err, pki.ReasonCAFile) {
				t.Errorf("%s with the password %q: %v", file, wrong, err)
			}
		}
	}
	for file, given := range map[string]string{"encrypted.key": password, "sec1.key": "", "middle.key": "not needed"} {
		key, err := pki.ReadKey(corp.bytes(file), []byte(given))
		if err != nil || !kms.Same(key.Public(), plain.Key.Public()) {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, wrong := range []string{"", "wrong"} {
		if _, err := pki.ReadKey(corp.bytes("encrypted.key"), []byte(wrong)); !fault.Is(err, pki.ReasonCAFile) {
			t.Errorf("encrypted.key with the password %q: %v", wrong, err)
		}
	}
	for _, file := range []string{"middle.pem", "new.pfx", "password"} {
		if _, err := pki.ReadKey(corp.bytes(file), nil); !fault.Is(err, pki.ReasonCAFile) {
			t.Errorf("a key out of %s: %v", file, err)
		}
	}
	for _, file := range []string{"middle.key", "new.pfx", "password"} {
		if _, err := pki.ReadCertificates(corp.bytes(file)); !fault.Is(err, pki.ReasonCAFile) {
			t.Errorf("certificates out of %s: %v", file, err)
		}
	}
}

// TestAuthoritiesThatAreRefused stores nothing of them.
func TestAuthoritiesThatAreRefused(t *testing.T) {
	const ca, signs, id = "basicConstraints=critical,CA:TRUE", "\nkeyUsage=critical,keyCertSign,cRLSign", "\nsubjectKeyIdentifier=hash"
	for name, c := range map[string]struct {
		root, middle string // extensions; of an intermediate only if there is one
		reason, says string
	}{
		"no authority":                  {root: "basicConstraints=critical,CA:FALSE" + id, reason: pki.ReasonCARefused, says: "CA:TRUE"},
		"not for certificates":          {root: ca + "\nkeyUsage=critical,cRLSign,digitalSignature" + id, reason: pki.ReasonCARefused, says: "keyCertSign"},
		"a root without room below":     {root: ca + ",pathlen:0" + signs + id, reason: pki.ReasonCARefused, says: "pathlen 0"},
		"for servers only":              {root: ca + signs + id + "\nextendedKeyUsage=serverAuth", reason: pki.ReasonCARefused, says: "clientAuth"},
		"names of others":               {root: ca + signs + id + "\nnameConstraints=critical,permitted;URI:other.example", reason: pki.ReasonCARefused, says: "spiffe://fleet.example/"},
		"no names in capitals":          {root: ca + signs + id + "\nnameConstraints=critical,excluded;URI:FLEET.example", reason: pki.ReasonCARefused, says: "name constraints"},
		"no names around ours":          {root: ca + signs + id + "\nnameConstraints=critical,excluded;URI:example", reason: pki.ReasonCARefused, says: "name constraints"},
		"no names of ours":              {root: ca + signs + id + "\nnameConstraints=critical,excluded;URI:fleet.example", reason: pki.ReasonCARefused, says: "name constraints"},
		"an unknown critical word":      {root: ca + signs + id + "\n1.2.3.4=critical,ASN1:UTF8String:x", reason: pki.ReasonCARefused, says: "1.2.3.4"},
		"below a root without room":     {root: ca + ",pathlen:0" + signs + id, middle: intermediateExtensions, reason: pki.ReasonCARefused, says: "pathlen 0"},
		"below a root for servers":      {root: ca + signs + id + "\nextendedKeyUsage=serverAuth", middle: intermediateExtensions, reason: pki.ReasonCARefused, says: "the root has extended key usages"},
		"an intermediate without list":  {root: rootExtensions, middle: ca + "\nkeyUsage=critical,keyCertSign" + id, reason: pki.ReasonCARefused, says: "cRLSign"},
		"an intermediate that is none":  {root: rootExtensions, middle: "basicConstraints=critical,CA:FALSE" + id, reason: pki.ReasonCARefused, says: "CA:TRUE"},
		"an intermediate without an id": {root: rootExtensions, middle: ca + signs + "\nsubjectKeyIdentifier=none", reason: pki.ReasonCARefused, says: "subject key identifier"},
	} {
		t.Run(name, func(t *testing.T) {
			corp := newCorporate(t)
			corp.root(ecKey, c.root)
			names := []string{"root"}
			if c.middle != "" {
				corp.intermediate(c.middle)
				names = []string{"middle", "root"}
			}
			refused(t, corp.read(names...), c.reason, c.says)
		})
	}
}

// TestAConstrainedAuthoritySignsNoOtherNames: not even where another trust domain was configured after the import, be it the
// root or what is below it that does not permit the names.
func TestAConstrainedAuthoritySignsNoOtherNames(t *testing.T) {
	const ours = "\nnameConstraints=critical,permitted;URI:fleet.example"
	for name, c := range map[string]struct{ root, middle string }{
		"the root": {rootExtensions + ours, intermediateExtensions}, "the intermediate": {rootExtensions, intermediateExtensions + ours},
	} {
		t.Run(name, func(t *testing.T) {
			corp, store := newCorporate(t), &memory{}
			corp.root(ecKey, c.root)
			corp.intermediate(c.middle)
			authority := open(t, store, policy)
			if _, err := authority.Import(t.Context(), corp.read("middle", "root")); err != nil {
				t.Fatal(err)
			}
			corp.certifies(authority)
			elsewhere := policy
			elsewhere.TrustDomain = "other.example"
			_, err := open(t, store, elsewhere).Issue(t.Context(), request(t, acme, time.Now()))
			if err == nil || !strings.Contains(err.Error(), "name constraints") {
				t.Errorf("error %v", err)
			}
		})
	}
}

// refused imports into an empty installation and into one that has an authority.
func refused(t *testing.T, i pki.Import, reason, says string) {
	t.Helper()
	for _, tenants := range [][]fleet.TenantID{nil, {acme}} {
		store := &memory{}
		authority := open(t, store, policy, tenants...)
		before := len(store.keys)
		if _, err := authority.Import(t.Context(), i); !fault.Is(err, reason) || !strings.Contains(err.Error(), says) {
			t.Errorf("imported: %v", err)
		}
		if len(store.keys) != before {
			t.Errorf("%d keys are stored", len(store.keys)-before)
		}
	}
}

func TestKeysAndChainsThatAreRefused(t *testing.T) {
	corp := newCorporate(t)
	corp.root(ecKey, rootExtensions)
	corp.intermediate(intermediateExtensions)
	corp.make("deep", ecKey, intermediateExtensions, "middle", "30")
	corp.make("other", ecKey, rootExtensions, "other", "3650")
	corp.make("small", "RSA -pkeyopt rsa_keygen_bits:2048", rootExtensions, "small", "3650")
	corp.make("edwards", "ED25519", rootExtensions, "edwards", "3650")
	corp.make("p384", "EC -pkeyopt ec_paramgen_curve:P-384", rootExtensions, "p384", "3650")

	refused(t, corp.read("small"), pki.ReasonCAAlgorithm, "3072")
	refused(t, corp.read("edwards"), pki.ReasonCAAlgorithm, "P-256")
	refused(t, corp.read("p384"), pki.ReasonCAAlgorithm, "P-256")
	refused(t, corp.read("middle"), pki.ReasonCAChain, "exactly one must follow")
	refused(t, corp.read("deep", "middle", "root"), pki.ReasonCAChain, "deeper hierarchies")
	refused(t, corp.read("middle", "other"), pki.ReasonCAChain, "did not sign")
	refused(t, corp.read("root", "other"), pki.ReasonCAChain, "no other may follow")
	swapped := corp.read("root")
	swapped.Key = corp.read("other").Key
	refused(t, swapped, pki.ReasonCAKey, "not that of the certificate")
	for _, days := range []int{-1, 3651} {
		early := corp.read("root")
		early.Now = early.Now.AddDate(0, 0, days)
		refused(t, early, pki.ReasonCARefused, "valid")
	}
}

// TestAnAuthorityWithoutOCSP says so, and its leaves name no responder.
func TestAnAuthorityWithoutOCSP(t *testing.T) {
	const clients = "\nextendedKeyUsage=clientAuth"
	for name, c := range map[string]struct{ root, middle string }{
		"an intermediate": {rootExtensions, intermediateExtensions + clients}, "its root": {rootExtensions + clients, intermediateExtensions},
		"a root": {root: rootExtensions + clients},
	} {
		t.Run(name, func(t *testing.T) {
			corp, names := newCorporate(t), []string{"root"}
			corp.root(ecKey, c.root)
			if c.middle != "" {
				corp.intermediate(c.middle)
				names = []string{"middle", "root"}
			}
			authority := open(t, &memory{}, policy)
			imported, err := authority.Import(t.Context(), corp.read(names...))
			if err != nil || imported.OCSP {
				t.Fatalf("imported %+v, %v", imported, err)
			}
			if leaf := parse(t, corp.certifies(authority).CertificateDER); len(leaf.OCSPServer) != 0 {
				t.Errorf("the leaf names %v", leaf.OCSPServer)
			}
		})
	}
}

// TestImportOfAKeyInAKeyService takes over what was made there by others.
func TestImportOfAKeyInAKeyService(t *testing.T) {
	onKeyServices(t, func(t *testing.T, b kmstest.Backend) {
		config := kept(t, b)
		key := kmstest.Create(t, config.KeyServices, kms.ECDSAP256)
		certificate := selfSigned(t, config.KeyServices.Signer(key.URI, key.Public))
		store := &memory{}
		authority := open(t, store, config)
		i := pki.Import{Tenant: acme, Chain: []*x509.Certificate{certificate}, KeyURI: b.Missing, Now: time.Now()}
		if _, err := authority.Import(t.Context(), i); !fault.Is(err, pki.ReasonKMSUnavailable) {
			t.Errorf("a key that is not there: %v", err)
		}
		i.KeyURI = kmstest.Create(t, config.KeyServices, kms.ECDSAP256).URI
		if _, err := authority.Import(t.Context(), i); !fault.Is(err, pki.ReasonCAKey) {
			t.Errorf("another key: %v", err)
		}
		if len(store.keys) != 0 {
			t.Errorf("%d keys are stored", len(store.keys))
		}
		i.KeyURI = key.URI
		if imported, err := authority.Import(t.Context(), i); err != nil || !imported.Active {
			t.Fatalf("imported %+v, %v", imported, err)
		}
		if root := store.key(t, acme, fleet.SigningKeyRoot); root.KeyURI != key.URI || len(root.SealedKey) != 0 {
			t.Errorf("stored %+v", root)
		}
		issue(t, authority, request(t, acme, time.Now()))
	})
}

func selfSigned(t *testing.T, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Corp Root"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return parse(t, der)
}
