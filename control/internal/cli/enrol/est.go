// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"gitlab.com/ampora/ampora/shared/identity"
)

const (
	// The operations' well-known places (RFC 7030 section 3.2.2).
	enrolPath = "/.well-known/est/simpleenroll"
	renewPath = "/.well-known/est/simplereenroll"
	// maxAnswer is far above a chain of certificates.
	maxAnswer = 256 << 10
	// maxWords is how much of a refusal's text is worth showing.
	maxWords = 1 << 10
)

// Refusal is an answer of the server that is no certificate.
type Refusal struct {
	Status int    // of HTTP
	Words  string // the server's text, at most 1 KiB, not escaped
	// RetryAfter is the header of that name (RFC 9110 section 10.2.3), "" without one.
	RetryAfter string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the gateway answered %d %s", r.Status, http.StatusText(r.Status))
}

// simpleEnroll asks for a certificate for the key with a token (RFC 7030 section 4.2.1), or, without one, with the
// certificate of the client (section 4.2.2), and returns it with its issuers.
func simpleEnroll(
	ctx context.Context, client *http.Client, gateway *url.URL, token *identity.Token, key *ecdsa.PrivateKey,
) (chain, error) {
	path := renewPath
	if token != nil {
		path = enrolPath
	}
	// The subject is empty: the server knows who this is, from the token or the certificate.
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, fmt.Errorf("making the certificate request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		(&url.URL{Scheme: "https", Host: gateway.Host, Path: path}).String(),
		strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	if token != nil {
		request.Header.Set("Authorization", "Bearer "+token.Reveal())
	}
	request.Header.Set("Content-Type", "application/pkcs10")
	request.Header.Set("Accept", "application/pkcs7-mime")
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		words, _ := io.ReadAll(io.LimitReader(answer.Body, maxWords)) // what arrived is better than nothing
		return nil, &Refusal{
			Status: answer.StatusCode, Words: strings.TrimSpace(string(words)), RetryAfter: answer.Header.Get("Retry-After"),
		}
	}
	set, err := certificatesOf(answer)
	if err != nil {
		return nil, fmt.Errorf("the gateway's answer is no EST answer: %w", err)
	}
	return chainFor(key, set)
}

func certificatesOf(answer *http.Response) ([]*x509.Certificate, error) {
	media, _, err := mime.ParseMediaType(answer.Header.Get("Content-Type"))
	if err != nil || media != "application/pkcs7-mime" {
		return nil, fmt.Errorf("its content type is %q", answer.Header.Get("Content-Type"))
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	if err != nil {
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, errors.New("it is too large")
	}
	return parseCertsOnly(body)
}

// parseCertsOnly reads a certs-only message (RFC 5272 section 4.1) in base64. White space is allowed anywhere
// (RFC 8951 section 3.1).
func parseCertsOnly(body []byte) ([]*x509.Certificate, error) {
	compact := bytes.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, body)
	der, err := base64.StdEncoding.DecodeString(string(compact))
	if err != nil {
		return nil, fmt.Errorf("its body is not base64: %w", err)
	}
	set, err := certificateSet(der)
	if err != nil {
		return nil, fmt.Errorf("its body is not PKCS #7: %w", err)
	}
	return x509.ParseCertificates(set)
}

// oidSignedData is id-signedData (RFC 5652 section 5.1).
var oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}

// certificateSet finds the certificates of a ContentInfo that holds SignedData (RFC 5652 sections 3 and 5.1), in DER,
// one behind the other. It reads the one shape that matters here, and no BER: general readers of PKCS #7 do much more
// with bytes that nobody has vouched for yet.
func certificateSet(der []byte) ([]byte, error) {
	var info, content, signed, certificates cryptobyte.String
	var kind asn1.ObjectIdentifier
	wrapped := func(tag cbasn1.Tag) cbasn1.Tag { return tag.ContextSpecific().Constructed() }
	input := cryptobyte.String(der)
	switch {
	case !input.ReadASN1(&info, cbasn1.SEQUENCE) || !input.Empty():
		return nil, errors.New("no ContentInfo")
	case !info.ReadASN1ObjectIdentifier(&kind) || !kind.Equal(oidSignedData):
		return nil, errors.New("no signed data")
	case !info.ReadASN1(&content, wrapped(0)) || !content.ReadASN1(&signed, cbasn1.SEQUENCE):
		return nil, errors.New("no content")
	case !signed.SkipASN1(cbasn1.INTEGER) || // version
		!signed.SkipASN1(cbasn1.SET) || // digestAlgorithms
		!signed.SkipASN1(cbasn1.SEQUENCE): // encapContentInfo
		return nil, errors.New("damaged signed data")
	case !signed.ReadASN1(&certificates, wrapped(0)):
		return nil, errNoCertificate
	default:
		return certificates, nil
	}
}
