// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package drivers

import (
	"os"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
)

func TestMain(m *testing.M) { os.Exit(kmstest.Main(m)) }
