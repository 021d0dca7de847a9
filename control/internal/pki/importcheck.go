// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons for which an authority is not imported.
const (
	// ReasonCARefused: what its certificate says does not let it be an authority of agents.
	ReasonCARefused = "CA_CERTIFICATE_REFUSED"
	// ReasonCAChain: there is not exactly a root, or an intermediate and its root.
	ReasonCAChain = "CA_CHAIN_REFUSED"
	// ReasonCAKey: the key is not that of the certificate.
	ReasonCAKey = "CA_KEY_MISMATCH"
	// ReasonCAAlgorithm: the key is of a kind or size that authorities here do not have.
	ReasonCAAlgorithm = "CA_KEY_REFUSED"
	// ReasonCAThere: the tenant has the key already.
	ReasonCAThere = "CA_ALREADY_THERE"
	// ReasonCAFile: a file is not what it should be, or its password is another.
	ReasonCAFile = "CA_FILE_UNREADABLE"
)

var errKeyMismatch = fault.New(fault.Invalid, ReasonCAKey, "the key is not that of the certificate")

func refuseCertificate(format string, args ...any) error {
	return fault.New(fault.Invalid, ReasonCARefused, format, args...)
}

func refuseChain(format string, args ...any) error {
	return fault.New(fault.Invalid, ReasonCAChain, format, args...)
}

func algorithmOf(public crypto.PublicKey) (Algorithm, error) {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return ECDSAP256, nil
		}
	case *rsa.PublicKey:
		if key.N.BitLen() == 3072 {
			return RSA3072, nil
		}
	}
	return "", fault.New(fault.Invalid, ReasonCAAlgorithm, "the key of a certificate authority is ECDSA on P-256 or RSA of 3072 bits here")
}

// checkChain returns the root of an authority: itself, or the one other certificate.
func (a *Authority) checkChain(chain []*x509.Certificate, now time.Time) (root *x509.Certificate, err error) {
	if len(chain) == 0 {
		return nil, refuseChain("there is no certificate")
	}
	authority := chain[0]
	if selfSigned(authority) {
		if len(chain) > 1 {
			return nil, refuseChain("the first certificate is a root, so no other may follow it")
		}
		return authority, a.checkRoot(authority, now, "its certificate")
	}
	if len(chain) != 2 || !selfSigned(chain[1]) {
		return nil, refuseChain("after the certificate of the authority exactly one must follow, that of the root which signed it: deeper hierarchies are not supported")
	}
	root = chain[1]
	if err := authority.CheckSignatureFrom(root); err != nil {
		return nil, refuseChain("the root did not sign the certificate of the authority: %s", err)
	}
	if err := a.checkRoot(root, now, "the root"); err != nil {
		return nil, err
	}
	return root, a.checkIntermediate(authority, now)
}

func selfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
}

// checkRoot: below a root stand an intermediate and agents.
func (a *Authority) checkRoot(c *x509.Certificate, now time.Time, name string) error {
	switch err := a.checkAuthority(c, now, name); {
	case err != nil:
		return err
	case c.MaxPathLen == 0 && c.MaxPathLenZero:
		return refuseCertificate("%s allows no authority below it (pathlen 0), and agents are certified by an intermediate", name)
	}
	return nil
}

// checkIntermediate: below it stand agents, and it signs what it has revoked.
func (a *Authority) checkIntermediate(c *x509.Certificate, now time.Time) error {
	const name = "its certificate"
	switch err := a.checkAuthority(c, now, name); {
	case err != nil:
		return err
	case c.KeyUsage&x509.KeyUsageCRLSign == 0:
		return refuseCertificate("%s has not the key usage cRLSign, so no revocation list could be signed", name)
	case len(c.SubjectKeyId) == 0:
		return refuseCertificate("%s has no subject key identifier, by which revocation lists are found", name)
	}
	return nil
}

func (a *Authority) checkAuthority(c *x509.Certificate, now time.Time, name string) error {
	switch {
	case !c.BasicConstraintsValid || !c.IsCA:
		return refuseCertificate("%s is not that of an authority: its basic constraints do not say CA:TRUE", name)
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return refuseCertificate("%s has not the key usage keyCertSign", name)
	case now.Before(c.NotBefore):
		return refuseCertificate("%s is not valid before %s", name, c.NotBefore.UTC().Format(time.RFC3339))
	case !now.Before(c.NotAfter):
		return refuseCertificate("%s was valid until %s", name, c.NotAfter.UTC().Format(time.RFC3339))
	case !allows(c, x509.ExtKeyUsageClientAuth):
		return refuseCertificate("%s has extended key usages, and clientAuth is not among them", name)
	case !permits(c, a.config.TrustDomain):
		return refuseCertificate("the name constraints of %s do not permit the names of agents, spiffe://%s/…", name, a.config.TrustDomain)
	case len(c.UnhandledCriticalExtensions) > 0:
		return refuseCertificate("%s has the critical extension %s, which is not understood here", name, c.UnhandledCriticalExtensions[0])
	}
	return nil
}

// permits says whether the name constraints of an authority let URIs of a host be certified (RFC 5280, section 4.2.1.10).
// Some who verify take a domain for all that is below it, where the RFC means the one host: what is excluded either way is
// not permitted.
func permits(c *x509.Certificate, host string) bool {
	host = strings.ToLower(host)
	named := func(domain string) bool {
		domain = strings.ToLower(domain)
		return host == domain || strings.HasPrefix(domain, ".") && strings.HasSuffix(host, domain)
	}
	below := func(domain string) bool {
		return named(domain) || strings.HasSuffix(host, "."+strings.ToLower(domain))
	}
	return (len(c.PermittedURIDomains) == 0 || slices.ContainsFunc(c.PermittedURIDomains, named)) && !slices.ContainsFunc(c.ExcludedURIDomains, below)
}

// without says of an authority that it does not allow the usage.
func without(usage x509.ExtKeyUsage) func(*x509.Certificate) bool {
	return func(c *x509.Certificate) bool { return !allows(c, usage) }
}

// allows says whether certificates below an authority may have the usage: usages nest.
func allows(c *x509.Certificate, usage x509.ExtKeyUsage) bool {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 {
		return true
	}
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny) || slices.Contains(c.ExtKeyUsage, usage)
}
