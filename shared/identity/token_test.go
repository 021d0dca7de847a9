// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/shared/identity"
)

// A token of 32 zero bytes. The check characters were computed apart from this
// package, so that both directions cannot agree on a mistake.
const (
	golden     = "amp-bs.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa."
	goldenCRC  = "vv7uyja"
	crcOfSpare = "gr3b3hq" // of golden with its last 'a' made a 'b'
)

func TestTokenForm(t *testing.T) {
	form := regexp.MustCompile(`^amp-pat\.[a-z2-7]{52}\.[a-z2-7]{7}$`)
	seen := map[string]bool{}
	for range 100 {
		token := identity.NewToken(identity.APIToken)
		text := token.Reveal()
		if !form.MatchString(text) || seen[text] || token.Kind() != identity.APIToken {
			t.Fatalf("NewToken made %q of kind %s", text, token.Kind())
		}
		seen[text] = true
		parsed, err := identity.ParseToken(identity.APIToken, text)
		if err != nil || parsed.Reveal() != text || parsed.Hash() != sha256.Sum256([]byte(text)) {
			t.Fatalf("ParseToken(%q) = %q, %v", text, parsed.Reveal(), err)
		}
	}
}

func TestTokenGolden(t *testing.T) {
	token, err := identity.ParseToken(identity.BootstrapToken, golden+goldenCRC)
	if err != nil {
		t.Fatal(err)
	}
	if got := token.Reveal(); got != golden+goldenCRC {
		t.Errorf("it reveals %q", got)
	}
}

func TestParseTokenTellsDamageFromNonsense(t *testing.T) {
	text := golden + goldenCRC
	spare := golden[:len(golden)-2] + "b." // a spare bit of the last character set
	cases := map[string]error{
		"":                          identity.ErrTokenForm,
		"amp-bs":                    identity.ErrTokenForm,
		"amp-pat" + text[6:]:        identity.ErrTokenForm,
		strings.ToUpper(text):       identity.ErrTokenForm,
		" " + text:                  identity.ErrTokenForm,
		text + "a":                  identity.ErrTokenForm,
		text[:20] + "1" + text[21:]: identity.ErrTokenForm,
		spare + crcOfSpare:          identity.ErrTokenForm,
		text[:len(text)-1]:          identity.ErrTokenTruncated,
		golden:                      identity.ErrTokenTruncated,
		golden[:len(golden)-1]:      identity.ErrTokenTruncated,
		"amp-bs.":                   identity.ErrTokenTruncated,
		"amp-bs.." + goldenCRC:      identity.ErrTokenTruncated,
		text[:20] + "b" + text[21:]: identity.ErrTokenTruncated,
		text[:20] + text[21:]:       identity.ErrTokenTruncated,
	}
	for text, want := range cases {
		token, err := identity.ParseToken(identity.BootstrapToken, text)
		if !errors.Is(err, want) || token.Reveal() != "" {
			t.Errorf("ParseToken(%q) = %v, want %v", text, err, want)
		}
	}
}

func TestTokenNeverPrints(t *testing.T) {
	token := identity.NewToken(identity.BootstrapToken)
	secret := strings.Split(token.Reveal(), ".")[1]
	type enclosing struct{ hidden identity.Token }
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%T", "%p", "%t"} {
		fmt.Fprintf(&out, verb+"\n", token)
		fmt.Fprintf(&out, verb+"\n", &token)
		fmt.Fprintf(&out, verb+"\n", enclosing{token})
		fmt.Fprintf(&out, verb+"\n", []any{token})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "token", token, "in", enclosing{token})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "token", token, "list", []identity.Token{token})
	if err := json.NewEncoder(&out).Encode(map[string]any{"token": token, "pointer": &token}); err != nil {
		t.Fatal(err)
	}
	if text := strings.ToLower(out.String()); strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) {
		t.Errorf("the secret was printed:\n%s", text)
	}
	if !strings.Contains(out.String(), "amp-bs.[redacted]") {
		t.Error("the kind of the token was not printed")
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add(golden + goldenCRC)
	f.Add(golden)
	f.Add("amp-bs.x.y.z")
	f.Add(identity.NewToken(identity.APIToken).Reveal())
	f.Fuzz(func(t *testing.T, text string) {
		for _, kind := range []identity.TokenKind{identity.BootstrapToken, identity.APIToken, identity.GatewayToken, identity.PoolToken} {
			token, err := identity.ParseToken(kind, text)
			switch {
			case err == nil && token.Reveal() != text:
				t.Fatalf("ParseToken(%q) accepted another spelling", text)
			case err == nil:
			case !errors.Is(err, identity.ErrTokenForm) && !errors.Is(err, identity.ErrTokenTruncated):
				t.Fatalf("ParseToken(%q) = %v", text, err)
			case token.Reveal() != "":
				t.Fatalf("ParseToken(%q) returned a token with its error", text)
			}
		}
	})
}
