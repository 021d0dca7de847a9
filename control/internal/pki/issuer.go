// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/smallstep/certificates/cas/apiv1"
	"github.com/smallstep/certificates/cas/softcas"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

// issuer is the border to the step-ca library: its certificate authority service, one for one signing key.
//
// The library signs what it is told and has no policy of its own in this use: it bounds no lifetime and looks at no name.
// So the whole template is ours, names are held against the constraints of the authority here, and sign is the only call.
// Renewal is a new signature: the library's own keeps the old issuer's URLs.
type issuer struct {
	keyID       fleet.KeyID
	certificate *x509.Certificate
	root        *x509.Certificate
	signer      crypto.Signer
	library     *softcas.SoftCAS
	// ocsp says that certificates below it may be those of OCSP responders; an authority that was imported may not have any.
	ocsp bool
}

func newIssuer(keyID fleet.KeyID, certificate, root *x509.Certificate, signer crypto.Signer) *issuer {
	return &issuer{
		keyID: keyID, certificate: certificate, root: root, signer: signer,
		library: &softcas.SoftCAS{CertificateChain: []*x509.Certificate{certificate}, Signer: signer},
		ocsp:    allows(certificate, x509.ExtKeyUsageOCSPSigning) && allows(root, x509.ExtKeyUsageOCSPSigning),
	}
}

// sign returns a certificate that says what the template says, for a key whose holder has shown that it has it. The
// template needs dates and a serial number. The certificate's own signature is verified: a key service may have been
// wrong.
func (i *issuer) sign(key crypto.PublicKey, template x509.Certificate) (*x509.Certificate, error) {
	// URIs are all that is constrained: other names are certified below roots alone that are made here, without constraints.
	for _, uri := range template.URIs {
		if !permits(i.certificate, uri.Hostname()) || !permits(i.root, uri.Hostname()) {
			return nil, fmt.Errorf("pki: the name constraints of the authority with key %s do not permit %s", i.keyID, uri)
		}
	}
	template.PublicKey = key
	signed, err := i.library.CreateCertificate(&apiv1.CreateCertificateRequest{
		Template: &template, Lifetime: template.NotAfter.Sub(template.NotBefore),
	})
	if err != nil {
		return nil, fmt.Errorf("pki: sign with key %s: %w", i.keyID, err)
	}
	return signed.Certificate, nil
}

// window is a time of validity in whole seconds, which is all a certificate holds.
type window struct{ notBefore, notAfter time.Time }

// validity is the time for which a certificate made now may be valid: the lifetime,
// backdated, and within the issuer's own.
func (i *issuer) validity(now time.Time, backdate, lifetime time.Duration) (window, error) {
	if now.Before(i.certificate.NotBefore) || !now.Before(i.certificate.NotAfter) {
		return window{}, fault.New(fault.FailedPrecondition, ReasonAuthorityExpired,
			"the certificate authority is not valid at this time").With("key", string(i.keyID))
	}
	w := window{now.Add(-backdate), now.Add(lifetime)}
	if w.notBefore.Before(i.certificate.NotBefore) {
		w.notBefore = i.certificate.NotBefore
	}
	if w.notAfter.After(i.certificate.NotAfter) {
		w.notAfter = i.certificate.NotAfter
	}
	return window{w.notBefore.UTC().Truncate(time.Second), w.notAfter.UTC().Truncate(time.Second)}, nil
}
