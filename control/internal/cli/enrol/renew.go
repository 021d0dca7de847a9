// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package enrol

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"
)

// ErrNoIdentity says that the directory holds no identity that could be renewed.
var ErrNoIdentity = errors.New("the directory holds no valid identity")

// ErrBusy says that another process is renewing the identity.
var ErrBusy = errors.New("another process is renewing the identity in the directory")

// DueAt is when a certificate is due, if it is to be renewed that long before its end, at most half of its life, less the
// share of a quarter of that.
func DueAt(certificate *x509.Certificate, before time.Duration, share float64) time.Time {
	before = min(before, certificate.NotAfter.Sub(certificate.NotBefore)/2)
	return certificate.NotAfter.Add(-before + time.Duration(share*float64(before/4)))
}

// Renew replaces the identity in the directory by one of a new key, if it is due, with the certificate it has; or
// finishes an earlier run that was interrupted. Errors are as those of [Run].
func Renew(ctx context.Context, request Request) (Result, error) {
	if _, err := os.Stat(request.Dir); err != nil { // or it would be made
		return Result{}, fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	dir, err := openDir(request.Dir)
	if err != nil {
		return Result{}, err
	}
	unlock, err := dir.lock()
	if err != nil {
		return Result{}, err
	}
	defer unlock()
	if arrived, err := dir.arrived(); err != nil {
		return Result{}, err
	} else if arrived != nil {
		return request.install(dir, *arrived, true)
	}
	key, chain, err := dir.inPlace(request.Now)
	if err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrNoIdentity, err)
	}
	if !request.Force && request.Now.Before(DueAt(chain.leaf(), request.Before, request.Share)) {
		result, err := request.result(dir, chain)
		result.NotDue = true
		return result, err
	}
	shown := tls.Certificate{PrivateKey: key}
	for _, certificate := range ([]*x509.Certificate)(chain) {
		shown.Certificate = append(shown.Certificate, certificate.Raw)
	}
	fresh, err := dir.pendingKey()
	if err != nil {
		return Result{}, err
	}
	renewed, err := simpleEnroll(ctx, request.Client(shown), request.Gateway, nil, fresh)
	if err != nil {
		return Result{}, err
	}
	return request.install(dir, renewed, false)
}
