// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ocsp"

	"gitlab.com/ampora/ampora/shared/keypair"
)

// Stapler hands out the server's certificate with what its authority says of it, so
// that agents need not ask (RFC 6066, section 8). A certificate that names no responder
// goes without. A staple is used until it ends, and replaced when half of its life is
// over.
type Stapler struct {
	source  func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	client  *http.Client
	log     *slog.Logger
	clock   func() time.Time
	current atomic.Pointer[stapled]
}

// stapled is a certificate with its staple, and the one it was made of.
type stapled struct {
	plain, with *tls.Certificate
	renew, ends time.Time
}

// Bounds of what a responder can do to us.
const (
	stapleTime = 10 * time.Second
	stapleSkew = 5 * time.Minute // between its clock and ours
	maxStaple  = 64 << 10
	// After a failure it is asked again later and later.
	minStapleRetry = 30 * time.Second
	maxStapleRetry = time.Hour
)

// NewStapler makes a Stapler for the certificate that source gives.
func NewStapler(source func(*tls.ClientHelloInfo) (*tls.Certificate, error), log *slog.Logger, clock func() time.Time) *Stapler {
	return &Stapler{source: source, client: &http.Client{Timeout: stapleTime}, log: log, clock: clock}
}

// Certificate is for tls.Config.GetCertificate.
func (s *Stapler) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	plain, err := s.source(hello)
	if err != nil {
		return nil, err
	}
	if c := s.current.Load(); c != nil && c.plain == plain && s.clock().Before(c.ends) {
		return c.with, nil
	}
	return plain, nil
}

// Left is for how long the staple is still good, 0 without one, and whether the
// certificate should have one.
func (s *Stapler) Left() (left time.Duration, wanted bool) {
	plain, err := s.source(&tls.ClientHelloInfo{})
	if err != nil || !namesResponder(plain) {
		return 0, false
	}
	if c := s.current.Load(); c != nil && c.plain == plain {
		left = max(0, c.ends.Sub(s.clock()))
	}
	return left, true
}

func namesResponder(plain *tls.Certificate) bool {
	leaf, err := leafOf(plain)
	return err == nil && len(leaf.OCSPServer) > 0
}

// Run keeps the staple until the context ends.
func (s *Stapler) Run(ctx context.Context) error {
	ticker := time.NewTicker(keypair.Every)
	defer ticker.Stop()
	var failed *tls.Certificate
	var retry time.Duration
	var again time.Time
	for {
		plain, err := s.source(&tls.ClientHelloInfo{})
		if err == nil && s.due(plain) && (plain != failed || !s.clock().Before(again)) {
			if err := s.Refresh(ctx); err == nil {
				failed, retry = nil, 0
			} else if ctx.Err() == nil {
				failed, retry = plain, min(max(minStapleRetry, 2*retry), maxStapleRetry)
				again = s.clock().Add(retry)
				left, _ := s.Left()
				s.log.WarnContext(ctx, "the server certificate gets no OCSP staple", "error", err, "left", left, "retry", retry)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// due says whether the certificate should get a staple now.
func (s *Stapler) due(plain *tls.Certificate) bool {
	c := s.current.Load()
	return namesResponder(plain) && (c == nil || c.plain != plain || !s.clock().Before(c.renew))
}

var (
	errNoIssuer    = errors.New("its chain has no issuer, so nobody can be asked about it")
	errNoResponder = errors.New("it names no OCSP responder")
	errStaple      = errors.New("the OCSP answer is not about now")
)

// Refresh asks the responders that the certificate names, in turn.
func (s *Stapler) Refresh(ctx context.Context) error {
	plain, err := s.source(&tls.ClientHelloInfo{})
	if err != nil {
		return err
	}
	leaf, err := leafOf(plain)
	if err != nil {
		return err
	}
	if len(plain.Certificate) < 2 {
		return errNoIssuer
	}
	issuer, err := x509.ParseCertificate(plain.Certificate[1])
	if err != nil {
		return err
	}
	question, err := ocsp.CreateRequest(leaf, issuer, nil)
	if err != nil {
		return err
	}
	err = errNoResponder
	for _, url := range leaf.OCSPServer {
		var der []byte
		var answer *ocsp.Response
		if der, answer, err = s.ask(ctx, url, question, leaf, issuer); err == nil {
			s.keep(ctx, plain, der, answer)
			return nil
		}
	}
	return err
}

// ask returns an answer that its authority has signed and that is good now.
func (s *Stapler) ask(ctx context.Context, url string, question []byte, leaf, issuer *x509.Certificate) ([]byte, *ocsp.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(question))
	if err != nil {
		return nil, nil, err
	}
	request.Header.Set("Content-Type", "application/ocsp-request")
	response, err := s.client.Do(request)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return nil, nil, fmt.Errorf("%s: %s", url, response.Status)
	}
	der, err := io.ReadAll(io.LimitReader(response.Body, maxStaple))
	if err != nil {
		return nil, nil, err
	}
	answer, err := ocsp.ParseResponseForCert(der, leaf, issuer)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", url, err)
	}
	if now := s.clock(); now.Add(stapleSkew).Before(answer.ThisUpdate) || !now.Before(answer.NextUpdate) {
		return nil, nil, fmt.Errorf("%s: %w", url, errStaple)
	}
	return der, answer, nil
}

// keep staples the answer, whatever it says: agents shall know.
func (s *Stapler) keep(ctx context.Context, plain *tls.Certificate, der []byte, answer *ocsp.Response) {
	if answer.Status != ocsp.Good {
		s.log.ErrorContext(ctx, "the server certificate is not good, says its authority", "revoked", answer.Status == ocsp.Revoked, "since", answer.RevokedAt)
	}
	with := *plain
	with.OCSPStaple = der
	life := answer.NextUpdate.Sub(answer.ThisUpdate)
	s.current.Store(&stapled{plain: plain, with: &with, renew: answer.ThisUpdate.Add(life / 2), ends: answer.NextUpdate})
}

func leafOf(c *tls.Certificate) (*x509.Certificate, error) {
	if c.Leaf != nil {
		return c.Leaf, nil
	}
	return x509.ParseCertificate(c.Certificate[0])
}
