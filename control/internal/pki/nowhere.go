// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509"
	"errors"

	"github.com/smallstep/certificates/db"
)

// nowhere is the database given to the library. It stores nothing, since a
// certificate counts only once the caller has recorded it: having no method that
// stores certificates, which the library takes as leave not to, is its point. To
// every question it answers that it should not have been asked.
type nowhere struct{}

var _ db.AuthDB = nowhere{}

var errNowhere = errors.New("pki: the certificate library was asked for something that is not its part")

// IsRevoked refuses: revocation is not checked by the library.
func (nowhere) IsRevoked(string) (bool, error) { return false, errNowhere }

// Revoke refuses: revocation is recorded by its caller.
func (nowhere) Revoke(*db.RevokedCertificateInfo) error { return errNowhere }

// GetCertificate refuses: certificates are not looked up by the library.
func (nowhere) GetCertificate(string) (*x509.Certificate, error) { return nil, errNowhere }

// UseToken refuses: the library's tokens are not used.
func (nowhere) UseToken(string, string) (bool, error) { return false, errNowhere }

// IsSSHRevoked refuses: there are no SSH certificates.
func (nowhere) IsSSHRevoked(string) (bool, error) { return false, errNowhere }

// RevokeSSH refuses: there are no SSH certificates.
func (nowhere) RevokeSSH(*db.RevokedCertificateInfo) error { return errNowhere }

// IsSSHHost refuses: there are no SSH certificates.
func (nowhere) IsSSHHost(string) (bool, error) { return false, errNowhere }

// GetSSHHostPrincipals refuses: there are no SSH certificates.
func (nowhere) GetSSHHostPrincipals() ([]string, error) { return nil, errNowhere }

// Shutdown does nothing: there is nothing to close.
func (nowhere) Shutdown() error { return nil }
