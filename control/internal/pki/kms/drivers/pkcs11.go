// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build cgo && !nopkcs11

package drivers

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/miekg/pkcs11"
	"go.step.sm/crypto/kms/apiv1"
	library "go.step.sm/crypto/kms/pkcs11"
	"go.step.sm/crypto/kms/uri"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
)

func init() { registered = append(registered, newPKCS11()) } //nolint:gochecknoinits // the build tag decides

var (
	pkcs11Service = kms.Attributes{"module-path": true, "token": false, "serial": false, "slot-id": false, "max-sessions": false, "pin-source": false}
	pkcs11Key     = kms.Attributes{"id": false, "object": false}
)

func newPKCS11() kms.Driver {
	pins := &pins{}
	return kms.Driver{
		Scheme: library.Scheme,
		CheckService: func(u *uri.URI) error {
			if err := pkcs11Service.Check(u); err != nil {
				return err
			}
			if named := count(u, "token", "serial", "slot-id"); named != 1 {
				return errors.New("name the token by one of token, serial and slot-id")
			}
			return nil
		},
		CheckKey: func(u *uri.URI) error {
			if count(u, "id", "object") == 0 {
				return errors.New("name the key by id, object or both")
			}
			return pkcs11Key.Check(u)
		},
		Open: pins.open, Transient: transientPKCS11,
		Stale: func(error) bool { return true }, // a token that was reset knows neither session nor login
	}
}

func count(u *uri.URI, names ...string) (n int) {
	for _, name := range names {
		if u.Has(name) {
			n++
		}
	}
	return n
}

// pins keeps of the PIN that a token refused what is needed not to offer it again: after a few wrong ones it locks itself.
type pins struct {
	mu      sync.Mutex
	refused map[[sha256.Size]byte]bool
}

// open reads the PIN, which may have changed, and logs in to the token.
func (p *pins) open(ctx context.Context, service *uri.URI) (kms.Manager, error) {
	pin, err := readPIN(service.Get("pin-source"))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(pin))
	p.mu.Lock()
	refused := p.refused[sum]
	p.mu.Unlock()
	if refused {
		return nil, errors.New("the token refused this PIN before, and would lock itself: it is tried again when the file of pin-source has changed, or after a new start")
	}
	values := uri.Values(service)
	values.Del("pin-source") // the library would take a file that cannot be read for an empty PIN
	opened, err := library.New(ctx, apiv1.Options{URI: uri.New(library.Scheme, values).String(), Pin: pin})
	if err != nil {
		var code pkcs11.Error
		if errors.As(err, &code) && (code == pkcs11.CKR_PIN_INCORRECT || code == pkcs11.CKR_PIN_INVALID || code == pkcs11.CKR_PIN_LEN_RANGE) {
			p.mu.Lock()
			p.refused = map[[sha256.Size]byte]bool{sum: true}
			p.mu.Unlock()
		}
		return nil, err //nolint:wrapcheck // by the caller
	}
	return &adapter{library: opened, check: pkcs11Key.Check, named: func(name string) string {
		return uri.New(library.Scheme, map[string][]string{"id": {newID()}, "object": {name}}).String()
	}}, nil
}

// readPIN reads the one line of a file; no file is no login.
func readPIN(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Errorf("pin-source: %w", err)
	}
	pin := bytes.TrimRight(text, "\r\n")
	if len(pin) == 0 || bytes.ContainsAny(pin, "\r\n") {
		return "", errors.New("pin-source: the file does not hold one line")
	}
	return string(pin), nil
}

// transientPKCS11: what a token says when it was reset, is being replaced or has no session left.
func transientPKCS11(err error) bool {
	var code pkcs11.Error
	if !errors.As(err, &code) {
		return network(err)
	}
	switch code {
	case pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_FUNCTION_FAILED,
		pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_COUNT,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, pkcs11.CKR_OBJECT_HANDLE_INVALID:
		return true
	}
	return false
}
