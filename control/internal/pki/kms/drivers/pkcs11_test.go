// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package drivers

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
	"gitlab.com/ampora/ampora/shared/fault"
)

func TestPKCS11(t *testing.T) { kmstest.Run(t, kmstest.SoftHSM(t, All())) }

// TestAWrongPINIsNotTriedAgain: a token locks itself after a few.
func TestAWrongPINIsNotTriedAgain(t *testing.T) {
	b := kmstest.SoftHSM(t, All())
	file := b.URI[strings.Index(b.URI, "pin-source=")+len("pin-source="):]
	put := func(pin string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(pin), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	services := b.Open(t, 10*time.Second)
	put("wrong\n")
	for i := range 3 {
		_, err := services.Create(t.Context(), "ampora-test", kms.ECDSAP256)
		if want := []string{"CKR_PIN_INCORRECT", "refused this PIN before", "refused this PIN before"}[i]; !fault.Is(err, kms.ReasonUnavailable) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "wrong") {
			t.Errorf("try %d: %v", i, err)
		}
	}
	for _, none := range []string{"", "two\nlines\n"} {
		put(none)
		if _, err := services.Create(t.Context(), "ampora-test", kms.ECDSAP256); err == nil || !strings.Contains(err.Error(), "one line") {
			t.Errorf("%q: %v", none, err)
		}
	}
	put(kmstest.PIN)
	kmstest.Create(t, services, kms.ECDSAP256)
}

func TestPKCS11ServicesThatAreRefused(t *testing.T) {
	for name, uri := range map[string]string{ //nolint:gosec // no credentials of anybody
		"no module":         "pkcs11:token=x;pin-source=/p",
		"no token":          "pkcs11:module-path=/m.so;pin-source=/p",
		"two tokens":        "pkcs11:module-path=/m.so;token=x;serial=5;pin-source=/p",
		"a PIN":             "pkcs11:module-path=/m.so;token=x?pin-value=hunter2",
		"a prompt":          "pkcs11:module-path=/m.so;token=x?pin-prompt=hunter2",
		"an empty token":    "pkcs11:module-path=/m.so;token=;pin-source=/p",
		"a word of nobody":  "pkcs11:module-path=/m.so;token=x;pinsource=/p",
		"a key's own words": "pkcs11:module-path=/m.so;token=x;id=5e",
	} {
		_, err := kms.Open(kms.Config{Home: uri}, kms.Deps{Drivers: All(), Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
