// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"errors"
	"math/big"
	"strings"
	"testing"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/shared/identity"
)

func TestParseTenantID(t *testing.T) {
	for text, valid := range map[string]bool{
		"acme": true, "a": true, "0-9": true, "-": true, strings.Repeat("a", 63): true,
		"": false, strings.Repeat("a", 64): false, "Acme": false, "a.b": false, "a/b": false,
		"a_b": false, "a b": false, "é": false, "a\x00": false, "a\n": false,
	} {
		tenant, err := identity.ParseTenantID(text)
		if (err == nil) != valid {
			t.Errorf("ParseTenantID(%q) = %v, want valid=%v", text, err, valid)
		}
		if valid && string(tenant) != text {
			t.Errorf("ParseTenantID(%q) changed it to %q", text, tenant)
		}
		if !valid && (!errors.Is(err, identity.ErrTenantID) || tenant != "") {
			t.Errorf("ParseTenantID(%q) = %q, %v, want ErrTenantID", text, tenant, err)
		}
	}
}

func TestNewAgentIDIsCanonicalAndOrdered(t *testing.T) {
	previous := identity.AgentID("")
	for range 1000 {
		id := identity.NewAgentID()
		if parsed, err := identity.ParseAgentID(string(id)); err != nil || parsed != id {
			t.Fatalf("ParseAgentID(%q) = %q, %v", id, parsed, err)
		}
		if id <= previous {
			t.Fatalf("%q was minted after %q but sorts before it", id, previous)
		}
		previous = id
	}
}

func TestParseAgentIDRefusesOtherSpellings(t *testing.T) {
	id := string(identity.NewAgentID())
	for _, text := range []string{
		"", strings.ToUpper(id), "urn:uuid:" + id, "{" + id + "}", strings.ReplaceAll(id, "-", ""),
		id + "0", id[:35], " " + id, uuid.NewString(), uuid.Nil.String(), uuid.Max.String(),
		id[:19] + "f" + id[20:], // another variant
	} {
		if _, err := identity.ParseAgentID(text); !errors.Is(err, identity.ErrAgentID) {
			t.Errorf("ParseAgentID(%q) = %v, want ErrAgentID", text, err)
		}
	}
}

func TestParseInstanceUID(t *testing.T) {
	raw := []byte{0x01, 0x92, 0xab, 0xcd, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 0xff}
	uid, err := identity.ParseInstanceUID(raw)
	if err != nil || uid.String() != "0192abcd-0405-0607-0809-0a0b0c0d0eff" {
		t.Errorf("ParseInstanceUID = %v, %v", uid, err)
	}
	for _, length := range []int{0, 1, 15, 17, 26, 36} {
		if _, err := identity.ParseInstanceUID(make([]byte, length)); !errors.Is(err, identity.ErrInstanceUID) {
			t.Errorf("%d bytes: %v, want ErrInstanceUID", length, err)
		}
	}
}

func TestFingerprintOf(t *testing.T) {
	// The SHA-256 of no bytes, from FIPS 180-4's examples.
	want := identity.Fingerprint("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	if got := identity.FingerprintOf(nil); got != want {
		t.Errorf("FingerprintOf(nil) = %s, want %s", got, want)
	}
}

func TestSerialOf(t *testing.T) {
	long := new(big.Int).Lsh(big.NewInt(1), 159)
	for _, c := range []struct {
		number *big.Int
		want   identity.Serial
	}{
		{big.NewInt(0), "0"},
		{big.NewInt(10), "a"},
		{big.NewInt(0x00ff), "ff"},
		{big.NewInt(-1), "-1"},
		{long, identity.Serial("8" + strings.Repeat("0", 39))},
	} {
		if got := identity.SerialOf(c.number); got != c.want {
			t.Errorf("SerialOf(%v) = %q, want %q", c.number, got, c.want)
		}
	}
}
