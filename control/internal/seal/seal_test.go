// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"gitlab.com/ampora/ampora/control/internal/seal"
)

var place = seal.Binding{Purpose: "ca-key", Tenant: "acme", Table: "signing_keys", Row: "k1", Column: "sealed_key"}

// openers are the two layers, which make the same promises.
func openers() map[string]struct {
	seal, open func(seal.Binding, []byte) ([]byte, error)
} {
	ring := seal.NewKeyring(seal.NewMasterKey(), nil)
	data := seal.NewDataKey()
	return map[string]struct {
		seal, open func(seal.Binding, []byte) ([]byte, error)
	}{
		"keyring":  {ring.Wrap, ring.Unwrap},
		"data key": {data.Seal, data.Open},
	}
}

func TestWhatIsSealedOpensUnchanged(t *testing.T) {
	for name, layer := range openers() {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			plaintext := rapid.SliceOf(rapid.Byte()).Draw(t, "plaintext")
			sealed := must(layer.seal(place, plaintext))
			if opened := must(layer.open(place, sealed)); !bytes.Equal(opened, plaintext) {
				t.Fatalf("opened %x, sealed %x", opened, plaintext)
			}
		}))
	}
}

func TestSealingTwiceGivesDifferentBytes(t *testing.T) {
	for name, layer := range openers() {
		a, b := must(layer.seal(place, []byte("same"))), must(layer.seal(place, []byte("same")))
		if bytes.Equal(a, b) {
			t.Errorf("%s: two records of one plaintext are equal", name)
		}
	}
}

func TestAnyFlippedBitIsRefused(t *testing.T) {
	for name, layer := range openers() {
		sealed := must(layer.seal(place, []byte("a private key")))
		for bit := range len(sealed) * 8 {
			damaged := slices.Clone(sealed)
			damaged[bit/8] ^= 1 << (bit % 8)
			if _, err := layer.open(place, damaged); !refused(err) {
				t.Fatalf("%s: bit %d flipped: error %v", name, bit, err)
			}
		}
	}
}

func TestAnyOtherLengthIsRefused(t *testing.T) {
	for name, layer := range openers() {
		sealed := must(layer.seal(place, []byte("a private key")))
		for n := range sealed {
			if _, err := layer.open(place, sealed[:n]); !errors.Is(err, seal.ErrTampered) {
				t.Fatalf("%s: cut to %d bytes: error %v", name, n, err)
			}
		}
		if _, err := layer.open(place, append(slices.Clone(sealed), 0)); !errors.Is(err, seal.ErrTampered) {
			t.Fatalf("%s: with a byte appended: error %v", name, err)
		}
	}
}

func TestARecordOpensOnlyInItsPlace(t *testing.T) {
	elsewhere := map[string]func(*seal.Binding){
		"another purpose":       func(b *seal.Binding) { b.Purpose = "oidc-secret" },
		"another tenant":        func(b *seal.Binding) { b.Tenant = "globex" },
		"another table":         func(b *seal.Binding) { b.Table = "tenants" },
		"another row":           func(b *seal.Binding) { b.Row = "k2" },
		"another column":        func(b *seal.Binding) { b.Column = "other" },
		"a border moved":        func(b *seal.Binding) { b.Table, b.Row = "signing_keysk", "1" },
		"a part moved":          func(b *seal.Binding) { b.Tenant, b.Table = "", "acmesigning_keys" },
		"columns swapped":       func(b *seal.Binding) { b.Row, b.Column = b.Column, b.Row },
		"a separator smuggled":  func(b *seal.Binding) { b.Row += "\x00" },
		"another case of ASCII": func(b *seal.Binding) { b.Tenant = "Acme" },
	}
	for name, layer := range openers() {
		sealed := must(layer.seal(place, []byte("a private key")))
		for how, move := range elsewhere {
			other := place
			move(&other)
			if _, err := layer.open(other, sealed); !errors.Is(err, seal.ErrTampered) {
				t.Errorf("%s: %s: error %v", name, how, err)
			}
		}
	}
}

// TestBindingsNeverCollide draws pairs of places from an alphabet that invites
// collisions: equal concatenations, bytes that look like lengths.
func TestBindingsNeverCollide(t *testing.T) {
	data := seal.NewDataKey()
	part := rapid.StringOfN(rapid.RuneFrom([]rune("a\x00\x01\x02")), 0, 3, -1)
	binding := rapid.Custom(func(t *rapid.T) seal.Binding {
		return seal.Binding{
			Purpose: "p" + part.Draw(t, "purpose"), Tenant: part.Draw(t, "tenant"),
			Table: part.Draw(t, "table"), Row: part.Draw(t, "row"), Column: part.Draw(t, "column"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		from, to := binding.Draw(t, "from"), binding.Draw(t, "to")
		_, err := data.Open(to, must(data.Seal(from, []byte("x"))))
		if opened := err == nil; opened != (from == to) {
			t.Fatalf("sealed for %q, opened for %q: error %v", from, to, err)
		}
	})
}

func TestABindingNeedsAPurpose(t *testing.T) {
	for name, layer := range openers() {
		if _, err := layer.seal(seal.Binding{Tenant: "acme"}, nil); !errors.Is(err, seal.ErrUnbound) {
			t.Errorf("%s: seal: error %v", name, err)
		}
		if _, err := layer.open(seal.Binding{Tenant: "acme"}, nil); !errors.Is(err, seal.ErrUnbound) {
			t.Errorf("%s: open: error %v", name, err)
		}
	}
}

func TestARecordOfOneLayerIsNoneOfTheOther(t *testing.T) {
	ring, data := seal.NewKeyring(seal.NewMasterKey(), nil), seal.NewDataKey()
	if _, err := data.Open(place, must(ring.Wrap(place, bytes.Repeat([]byte("x"), 100)))); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("data key on an envelope: error %v", err)
	}
	if _, err := ring.Unwrap(place, must(data.Seal(place, bytes.Repeat([]byte("x"), 100)))); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("keyring on a box: error %v", err)
	}
}

func TestNothingPrintsAKey(t *testing.T) {
	master := seal.NewMasterKey()
	ring, data := seal.NewKeyring(master, &master), seal.NewDataKey()
	var out strings.Builder
	log := slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range []any{master, &master, data, *data} {
		fmt.Fprintf(&out, "%v %+v %#v %s %x %d\n", v, v, v, v, v, v)
		log.Info("keys", "key", v)
	}
	want := "[redacted] [redacted] [redacted] [redacted] [redacted] [redacted]\n"
	for line := range strings.Lines(out.String()) {
		if line != want && !strings.Contains(line, `"key":"[redacted]"`) {
			t.Errorf("printed %q", line)
		}
	}
	known := must(seal.ParseMasterKey("BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=")) // 32 bytes of value 7
	unexported := struct{ master seal.MasterKey }{known}
	if text := fmt.Sprintf("%+v %#v %d %x", unexported, unexported, unexported, unexported); strings.Contains(text, "7 7") ||
		strings.Contains(text, "0x7, ") || strings.Contains(text, "0707") {
		t.Errorf("in an unexported field it prints as %s", text)
	}
	if got, want := fmt.Sprintf("%+v", ring), "keyring "+ring.ActiveKeyID(); got != want {
		t.Errorf("keyring prints %q, want %q", got, want)
	}
}

func refused(err error) bool {
	return errors.Is(err, seal.ErrTampered) || errors.Is(err, seal.ErrUnknownKey)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
