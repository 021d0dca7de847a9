// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.step.sm/crypto/kms/uri"
)

// Attributes are those that a URI may have, each with whether it must.
type Attributes map[string]bool

// secrets are attributes that the libraries below would take, with what to use instead. A URI is logged, shown and
// stored.
var secrets = map[string]string{ //nolint:gosec // their names
	"pin-value":     "put the PIN into a file and name it with pin-source",
	"pin-prompt":    "put the PIN into a file and name it with pin-source",
	"client-secret": "the environment gives it: AZURE_CLIENT_SECRET",
	"token":         "put the token into a file and name it with token-file",
	"secret-id":     "put the secret id into a file and name it with secret-id-file",
	"password":      "put it into a file",
}

// Check refuses what a URI may not hold. What it returns never repeats a value.
func (a Attributes) Check(u *uri.URI) error {
	if u.User != nil || u.Host != "" {
		return fmt.Errorf("it must be of the form %s:NAME=VALUE;NAME=VALUE", u.Scheme)
	}
	values := uri.Values(u)
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if name == u.Opaque && strings.HasPrefix(name, "projects/") { // a resource, which cloudkms has in place of attributes
			continue
		}
		if _, known := a[name]; known {
			if len(values[name]) != 1 || values[name][0] == "" {
				return fmt.Errorf("%s needs one value", name)
			}
			continue
		}
		if instead, secret := secrets[name]; secret {
			return fmt.Errorf("%s must not be in it: %s", name, instead)
		}
		return fmt.Errorf("%q is none of its attributes, which are %s", name, strings.Join(slices.Sorted(maps.Keys(a)), ", "))
	}
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if a[name] && !u.Has(name) {
			return fmt.Errorf("%s is missing", name)
		}
	}
	return nil
}

// parse reads a URI. Its errors repeat nothing of it but the scheme: what is wrong may be a secret in the wrong place.
func parse(text string) (*uri.URI, error) {
	u, err := uri.Parse(text)
	if err != nil || u.Scheme == "" {
		return nil, fmt.Errorf("it is not of the form SCHEME:NAME=VALUE;NAME=VALUE")
	}
	u.Scheme = strings.ToLower(u.Scheme)
	return u, nil
}
