// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package enrol gets an agent its certificate over EST (RFC 7030, simple enrolment and re-enrolment) for agents that take their TLS
// files from disk.
//
// What it guarantees:
//
//   - The private key never leaves the machine, and is on disk before the token is spent.
//   - Whatever is interrupted, and wherever, running it again finishes it: a key whose certificate has not arrived is
//     used again, and the server gives the same certificate to the same key; a certificate that has arrived is put in
//     place without asking again.
//   - A file is either the old or the new one, whole; key and certificate fit each other before either is replaced.
//   - A valid identity is not replaced unless that is asked for, and then by one of a new key. The certificate that is
//     replaced stays good until it expires: an agent that still has it in memory goes on.
package enrol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"gitlab.com/ampora/ampora/shared/identity"
)

// Request says what to enrol or renew, where and with what.
type Request struct {
	// Client makes a client that shows the certificates, if the server asks for one.
	Client func(certificates ...tls.Certificate) *http.Client
	// Gateway is the https address of a gateway; its path does not matter.
	Gateway *url.URL
	// Token is asked for once it is needed; a run that finishes an earlier one needs none.
	Token func() (identity.Token, error)
	Dir   string
	// ServerCA is what ca.pem shall hold: the authorities, in PEM form, with which the agent verifies the gateway. Empty: no
	// file, and the agent relies on those of its system.
	ServerCA []byte
	// Force replaces an identity that is still valid, and renews one that is not due.
	Force bool
	// Before is how long before its end a certificate is due to be renewed. Share, from 0 to 1, makes it due later, within the
	// first quarter of that: fleets are enrolled together.
	Before time.Duration
	Share  float64
	Now    time.Time
}

// Result is the identity that is now on disk.
type Result struct {
	Agent       identity.Agent
	Certificate *x509.Certificate
	// KeyFile, CertFile and CAFile are their paths; CAFile is "" without a server authority.
	KeyFile, CertFile, CAFile string
	// Finished says that an earlier run had the certificate already: nothing was asked for.
	Finished bool
	// NotDue says that the certificate was left as it is.
	NotDue bool
}

// ErrIdentityExists says that the directory holds an identity that is still valid.
var ErrIdentityExists = errors.New("the directory holds a valid identity")

// Run enrols, or finishes an earlier run that was interrupted. Errors of the server are [*Refusal]s; those of the
// directory wrap [fs.PathError]s.
func Run(ctx context.Context, request Request) (Result, error) {
	dir, err := openDir(request.Dir)
	if err != nil {
		return Result{}, err
	}
	if arrived, err := dir.arrived(); err != nil {
		return Result{}, err
	} else if arrived != nil {
		return request.install(dir, *arrived, true)
	}
	if !request.Force {
		if _, valid, err := dir.inPlace(request.Now); err == nil {
			return Result{}, fmt.Errorf("%w, until %s: %s", ErrIdentityExists, valid.leaf().NotAfter.UTC().Format(time.RFC3339), dir.path(certFile))
		}
	}
	token, err := request.Token()
	if err != nil {
		return Result{}, err
	}
	key, err := dir.pendingKey()
	if err != nil {
		return Result{}, err
	}
	chain, err := simpleEnroll(ctx, request.Client(), request.Gateway, &token, key)
	if err != nil {
		return Result{}, err
	}
	return request.install(dir, chain, false)
}

func (r Request) install(dir dir, chain chain, finished bool) (Result, error) {
	result, err := r.result(dir, chain)
	if err != nil {
		return Result{}, err
	}
	if err := dir.install(chain, r.ServerCA); err != nil {
		return Result{}, err
	}
	result.Finished = finished
	return result, nil
}

func (r Request) result(dir dir, chain chain) (Result, error) {
	agent, err := identity.FromCertificate(chain.leaf())
	if err != nil {
		return Result{}, fmt.Errorf("the certificate names no agent: %w", err)
	}
	result := Result{Agent: agent, Certificate: chain.leaf(), KeyFile: dir.path(keyFile), CertFile: dir.path(certFile)}
	if len(r.ServerCA) > 0 {
		result.CAFile = dir.path(caFile)
	}
	return result, nil
}
