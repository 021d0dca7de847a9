// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package enrol gets an agent its certificate over EST (RFC 7030, simple enrolment) for agents that take their TLS
// files from disk.
//
// What it guarantees:
//
//   - The private key never leaves the machine, and is on disk before the token is spent.
//   - Whatever is interrupted, and wherever, running it again finishes it: a key whose certificate has not arrived is
//     used again, and the server gives the same certificate to the same key; a certificate that has arrived is put in
//     place without asking again.
//   - A file is either the old or the new one, whole; key and certificate fit each other before either is replaced.
//   - A valid identity is not replaced unless that is asked for.
package enrol

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"gitlab.com/ampora/ampora/shared/identity"
)

// Request says what to enrol, where and with what.
type Request struct {
	Client *http.Client
	// Gateway is the https address of a gateway; its path does not matter.
	Gateway *url.URL
	// Token is asked for once it is needed; a run that finishes an earlier one needs none.
	Token func() (identity.Token, error)
	Dir   string
	// ServerCA is what ca.pem shall hold: the authorities, in PEM form, with which the agent verifies the gateway. Empty: no
	// file, and the agent relies on those of its system.
	ServerCA []byte
	// Force replaces an identity that is still valid.
	Force bool
	Now   time.Time
}

// Result is the identity that is now on disk.
type Result struct {
	Agent       identity.Agent
	Certificate *x509.Certificate
	// KeyFile, CertFile and CAFile are their paths; CAFile is "" without a server authority.
	KeyFile, CertFile, CAFile string
	// Finished says that an earlier run had the certificate already and no token was spent.
	Finished bool
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
		if valid := dir.validUntil(request.Now); !valid.IsZero() {
			return Result{}, fmt.Errorf("%w, until %s: %s", ErrIdentityExists, valid.UTC().Format(time.RFC3339), dir.path(certFile))
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
	chain, err := simpleEnroll(ctx, request.Client, request.Gateway, token, key)
	if err != nil {
		return Result{}, err
	}
	return request.install(dir, chain, false)
}

func (r Request) install(dir dir, chain chain, finished bool) (Result, error) {
	agent, err := identity.FromCertificate(chain.leaf())
	if err != nil {
		return Result{}, fmt.Errorf("the certificate names no agent: %w", err)
	}
	if err := dir.install(chain, r.ServerCA); err != nil {
		return Result{}, err
	}
	result := Result{
		Agent: agent, Certificate: chain.leaf(), Finished: finished,
		KeyFile: dir.path(keyFile), CertFile: dir.path(certFile),
	}
	if len(r.ServerCA) > 0 {
		result.CAFile = dir.path(caFile)
	}
	return result, nil
}
