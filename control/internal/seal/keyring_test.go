// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package seal_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/seal"
)

func TestParseMasterKey(t *testing.T) {
	good := seal.NewMasterKey()
	for name, test := range map[string]struct {
		text string
		ok   bool
	}{
		"exact":              {good.Base64(), true},
		"as a file has it":   {good.Base64() + "\n", true},
		"empty":              {"", false},
		"a password":         {"correct horse battery staple", false},
		"31 bytes":           {base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 31)), false},
		"33 bytes":           {base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 33)), false},
		"all zero":           {base64.StdEncoding.EncodeToString(make([]byte, 32)), false},
		"without padding":    {strings.TrimRight(good.Base64(), "="), false},
		"loose bits at end":  {strings.Repeat("A", 42) + "B=", false},
		"hexadecimal":        {strings.Repeat("ab", 32), false},
		"two keys in a file": {good.Base64() + "\n" + good.Base64(), false},
	} {
		got, err := seal.ParseMasterKey(test.text)
		if test.ok && (err != nil || got.Base64() != good.Base64()) {
			t.Errorf("%s: error %v", name, err)
		}
		if !test.ok && !errors.Is(err, seal.ErrMasterKey) {
			t.Errorf("%s: error %v", name, err)
		}
		if err != nil && test.text != "" && strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: the error repeats the text", name)
		}
	}
}

func TestAZeroMasterKeyIsRefused(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a keyring came up on a zero key")
		}
	}()
	seal.NewKeyring(seal.MasterKey{}, nil)
}

func TestAnotherMasterKeyIsUnknown(t *testing.T) {
	envelope := must(seal.NewKeyring(seal.NewMasterKey(), nil).Wrap(place, []byte("secret")))
	stranger := seal.NewKeyring(seal.NewMasterKey(), nil)
	if _, err := stranger.Unwrap(place, envelope); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("Unwrap: error %v", err)
	}
	if _, err := stranger.Rewrap(place, envelope); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("Rewrap: error %v", err)
	}
}

func TestAnotherDataKeyIsUnknown(t *testing.T) {
	box := must(seal.NewDataKey().Seal(place, []byte("secret")))
	if _, err := seal.NewDataKey().Open(place, box); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("error %v", err)
	}
}

func TestRotationOfTheMasterKey(t *testing.T) {
	oldKey, newKey := seal.NewMasterKey(), seal.NewMasterKey()
	before := seal.NewKeyring(oldKey, nil)
	during := seal.NewKeyring(newKey, &oldKey)
	after := seal.NewKeyring(newKey, nil)

	old := must(before.Wrap(place, []byte("secret")))
	if before.NeedsRewrap(old) || !during.NeedsRewrap(old) {
		t.Fatal("NeedsRewrap does not follow the active key")
	}
	if got := must(during.Unwrap(place, old)); string(got) != "secret" {
		t.Fatalf("during the rotation it opens as %q", got)
	}
	rewrapped := must(during.Rewrap(place, old))
	if during.NeedsRewrap(rewrapped) {
		t.Error("it still needs a rewrap")
	}
	if got := must(after.Unwrap(place, rewrapped)); string(got) != "secret" {
		t.Errorf("after the rotation it opens as %q", got)
	}
	if _, err := before.Unwrap(place, rewrapped); !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("the old key alone still opens it: error %v", err)
	}
	const header = 1 + 8 + 60
	if !bytes.Equal(old[header:], rewrapped[header:]) {
		t.Error("the rewrap touched the sealed data")
	}
	if bytes.Equal(old[:header], rewrapped[:header]) {
		t.Error("the rewrap left the wrapped key")
	}
}

// TestAnEnvelopeNamesItsMasterKey to whoever has none.
func TestAnEnvelopeNamesItsMasterKey(t *testing.T) {
	oldKey := seal.NewMasterKey()
	before, during := seal.NewKeyring(oldKey, nil), seal.NewKeyring(seal.NewMasterKey(), &oldKey)
	if id, ok := seal.MasterKeyOf(must(before.Wrap(place, []byte("secret")))); !ok || id != before.ActiveKeyID() || id != during.PreviousKeyID() {
		t.Errorf("it names %q, %v", id, ok)
	}
	if before.PreviousKeyID() != "" {
		t.Error("a keyring without a previous key names one")
	}
	for _, none := range [][]byte{nil, []byte("short"), must(seal.NewDataKey().Seal(place, make([]byte, 100)))} {
		if id, ok := seal.MasterKeyOf(none); ok {
			t.Errorf("%x is taken for an envelope under %s", none, id)
		}
	}
}

func TestRewrapHoldsTheBinding(t *testing.T) {
	ring := seal.NewKeyring(seal.NewMasterKey(), nil)
	other := place
	other.Row = "k2"
	if _, err := ring.Rewrap(other, must(ring.Wrap(place, []byte("secret")))); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("a record moved by a rewrap: error %v", err)
	}
}

// TestHeadAndDataOfTwoRecordsDoNotMix: each half is authentic for the place, and
// they still do not fit together.
func TestHeadAndDataOfTwoRecordsDoNotMix(t *testing.T) {
	ring := seal.NewKeyring(seal.NewMasterKey(), nil)
	a, b := must(ring.Wrap(place, []byte("first"))), must(ring.Wrap(place, []byte("other")))
	const header = 1 + 8 + 60
	if _, err := ring.Unwrap(place, append(a[:header:header], b[header:]...)); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("error %v", err)
	}
}

func TestKeyCheck(t *testing.T) {
	oldKey, newKey := seal.NewMasterKey(), seal.NewMasterKey()
	before := seal.NewKeyring(oldKey, nil)
	stored := before.Check()
	if err := before.VerifyCheck(stored); err != nil {
		t.Errorf("the right key: %v", err)
	}
	if err := seal.NewKeyring(newKey, &oldKey).VerifyCheck(stored); err != nil {
		t.Errorf("the previous key: %v", err)
	}
	err := seal.NewKeyring(newKey, nil).VerifyCheck(stored)
	if !errors.Is(err, seal.ErrWrongMasterKey) || !errors.Is(err, seal.ErrUnknownKey) {
		t.Errorf("a wrong key: %v", err)
	}
	if err == nil || !strings.Contains(err.Error(), "AMPORA_MASTER_KEY") {
		t.Errorf("the sentence does not name the setting: %v", err)
	}
	for name, damaged := range map[string][]byte{"missing": nil, "cut": stored[:20]} {
		if err := before.VerifyCheck(damaged); !errors.Is(err, seal.ErrTampered) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDataKeySurvivesStorage(t *testing.T) {
	oldKey, newKey := seal.NewMasterKey(), seal.NewMasterKey()
	at := seal.Binding{Purpose: "data-key", Tenant: "acme", Table: "tenants", Row: "acme", Column: "data_key"}
	key := seal.NewDataKey()
	box := must(key.Seal(place, []byte("body")))

	stored := must(seal.NewKeyring(oldKey, nil).WrapDataKey(at, key))
	stored = must(seal.NewKeyring(newKey, &oldKey).Rewrap(at, stored))
	loaded := must(seal.NewKeyring(newKey, nil).UnwrapDataKey(at, stored))
	if got := must(loaded.Open(place, box)); string(got) != "body" {
		t.Errorf("opened %q", got)
	}
}

func TestOnlyADataKeyUnwrapsAsOne(t *testing.T) {
	ring := seal.NewKeyring(seal.NewMasterKey(), nil)
	if _, err := ring.UnwrapDataKey(place, must(ring.Wrap(place, []byte("short")))); !errors.Is(err, seal.ErrTampered) {
		t.Errorf("error %v", err)
	}
}

// FuzzUnwrap feeds both layers what a damaged or hostile database might hold.
// Nothing but what was sealed may open, and nothing may panic. The master key is
// fixed, so that the fuzzer's processes share it and mutate valid envelopes.
func FuzzUnwrap(f *testing.F) {
	master := must(seal.ParseMasterKey(base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))))
	ring, data := seal.NewKeyring(master, nil), seal.NewDataKey()
	envelope, box := must(ring.Wrap(place, []byte("secret"))), must(data.Seal(place, []byte("secret")))
	f.Add(envelope)
	f.Add(envelope[:len(envelope)-1])
	f.Add(box)
	f.Add(box[:9])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, stored []byte) {
		if got, err := ring.Unwrap(place, stored); err == nil && string(got) != "secret" || err != nil && !refused(err) {
			t.Errorf("Unwrap: %q, error %v", got, err)
		}
		if got, err := data.Open(place, stored); err == nil && string(got) != "secret" || err != nil && !refused(err) {
			t.Errorf("Open: %q, error %v", got, err)
		}
		if rewrapped, err := ring.Rewrap(place, stored); err == nil && ring.NeedsRewrap(rewrapped) {
			t.Error("a rewrapped envelope still needs a rewrap")
		}
	})
}
