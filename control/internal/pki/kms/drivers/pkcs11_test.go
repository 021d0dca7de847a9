// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package drivers

import (
	"testing"

	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
)

func TestPKCS11(t *testing.T) { kmstest.Run(t, kmstest.SoftHSM(t, All())) }
