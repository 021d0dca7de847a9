// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build !noazurekms || !nocloudkms

package drivers

import (
	"errors"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/uri"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
)

// checkHSM checks a service's URI in which hsm=true has keys made in hardware.
func checkHSM(attributes kms.Attributes) func(*uri.URI) error {
	return func(u *uri.URI) error {
		if hsm := u.Get("hsm"); hsm != "" && hsm != "true" && hsm != "false" {
			return errors.New("hsm is true or false")
		}
		return attributes.Check(u)
	}
}

func levelOf(u *uri.URI) apiv1.ProtectionLevel {
	if u.GetBool("hsm") {
		return apiv1.HSM
	}
	return apiv1.Software
}
