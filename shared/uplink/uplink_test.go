// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package uplink_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"testing"

	"gitlab.com/ampora/ampora/shared/uplink"
)

var secret = bytes.Repeat([]byte{7}, 32)

// The seal is what the documentation says, computed apart from the package.
func TestSealOfAnUplink(t *testing.T) {
	key := uplink.Derive(secret, "gateway-1", 5)
	body := []byte("body")
	seal := key.SealUplink(body)
	mac := hmac.New(sha256.New, key[:])
	mac.Write([]byte("ampora uplink v1\x00body"))
	if want := mac.Sum(nil)[:uplink.SealSize]; !bytes.Equal(seal, want) || !key.SealedUplink(body, seal) {
		t.Errorf("the seal is %x, want %x", seal, want)
	}
	for name, other := range map[string]uplink.Key{
		"another gateway": uplink.Derive(secret, "gateway-2", 5),
		"another boot":    uplink.Derive(secret, "gateway-1", 6),
		"another secret":  uplink.Derive([]byte("other"), "gateway-1", 5),
		"no key":          {},
	} {
		if other.SealedUplink(body, seal) {
			t.Errorf("%s sealed it too", name)
		}
	}
	for name, altered := range map[string]struct{ body, seal []byte }{
		"another body": {[]byte("bodY"), seal},
		"a cut seal":   {body, seal[:15]},
		"no seal":      {body, nil},
		"nothing":      {},
	} {
		if key.SealedUplink(altered.body, altered.seal) {
			t.Errorf("%s passes", name)
		}
	}
}

func TestMarksStayInTheirRegister(t *testing.T) {
	key, body := uplink.Derive(secret, "gateway-1", 5), []byte("mark")
	a, b := uplink.Register("acme", "a"), uplink.Register("acme", "b")
	seal := key.SealMark(a, body)
	if !key.SealedMark(a, body, seal) {
		t.Error("its own seal is refused")
	}
	if key.SealedMark(b, body, seal) || key.SealedMark(a, body, key.SealUplink(body)) || key.SealedUplink(body, seal) {
		t.Error("a seal passes for something else")
	}
}

func TestKeysDoNotPrint(t *testing.T) {
	key := uplink.Derive(secret, "gateway-1", 5)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		if text := fmt.Sprintf(verb, key); text != "[redacted]" {
			t.Errorf("%s prints %s", verb, text)
		}
	}
	if parsed, err := uplink.ParseKey(key[:]); err != nil || parsed != key {
		t.Errorf("parsed %v, %v", parsed, err)
	}
	if _, err := uplink.ParseKey(key[:31]); err == nil {
		t.Error("a key of 31 bytes was taken")
	}
}

// A sealer that has sealed something else seals as one that has not.
func TestSealerIsUsedAgain(t *testing.T) {
	key, body := uplink.Derive(secret, "gateway-1", 5), []byte("body")
	sealer := key.Sealer()
	for range 3 {
		if seal := sealer.AppendUplink([]byte("x"), body); !bytes.Equal(seal, append([]byte("x"), key.SealUplink(body)...)) {
			t.Errorf("the seal of an uplink is %x", seal)
		}
		if seal := sealer.AppendMark(nil, "a/b", body); !bytes.Equal(seal, key.SealMark("a/b", body)) {
			t.Errorf("the seal of a mark is %x", seal)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	sealer, body := uplink.Derive(secret, "gateway-1", 5).Sealer(), make([]byte, 400)
	seal := make([]byte, 0, uplink.SealSize)
	b.ReportAllocs()
	for b.Loop() {
		sealer.AppendUplink(seal, body)
	}
}
