// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/identity"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestPenaltyDoublesAndIsForgotten(t *testing.T) {
	b := NewBox()
	if wait := b.Remaining("a", noon); wait != 0 {
		t.Errorf("a stranger waits %v", wait)
	}
	now := noon
	for strike, want := range []int{5, 10, 20, 40, 80, 160, 320, 600, 600} {
		length := time.Duration(want) * time.Second
		b.Punish("a", now)
		if wait := b.Remaining("a", now); wait != length {
			t.Errorf("strike %d: it waits %v, want %v s", strike+1, wait, want)
		}
		now = now.Add(length)
		if wait := b.Remaining("a", now); wait != 0 {
			t.Errorf("strike %d: after its time it waits %v", strike+1, wait)
		}
	}
	now = now.Add(11 * time.Minute)
	b.Punish("a", now)
	if wait := b.Remaining("a", now); wait != firstPenalty {
		t.Errorf("after good conduct it waits %v", wait)
	}
	if wait := b.Remaining("b", now); wait != 0 {
		t.Errorf("another one waits %v", wait)
	}
}

func TestBoxIsBounded(t *testing.T) {
	b := NewBox()
	for i := range boxSize + 10 {
		b.Punish(fmt.Sprint(i), noon)
	}
	if len(b.entries) != boxSize || b.order.Len() != boxSize || b.Remaining("0", noon) != 0 || b.Remaining(fmt.Sprint(boxSize), noon) == 0 {
		t.Errorf("the box holds %d", len(b.entries))
	}
}

func TestRetryAfterIsSpread(t *testing.T) {
	seen := map[time.Duration]bool{}
	for range 1000 {
		if wait := Overload(); wait < 30*time.Second || wait > time.Minute || wait%time.Second != 0 {
			t.Fatalf("overload: %v", wait)
		}
		wait := RetryAfter(40 * time.Second)
		if wait < 40*time.Second || wait > 61*time.Second || wait%time.Second != 0 {
			t.Fatalf("retry after 40 s: %v", wait)
		}
		seen[wait] = true
	}
	if len(seen) < 10 {
		t.Errorf("only %d different waits", len(seen))
	}
	if wait := RetryAfter(0); wait != time.Second {
		t.Errorf("retry after nothing: %v", wait)
	}
}

func TestBootstrapToken(t *testing.T) {
	text := identity.NewToken(identity.BootstrapToken).Reveal()
	basic := func(pair string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(pair)) }
	for header, want := range map[string]bool{
		"Bearer " + text: true, "bearer  " + text: true, basic("x:" + text): true, basic(":" + text): true,
		"": false, text: false, "Bearer": false, "Bearer " + text + "x": false, basic(text): false, "Basic !": false, "Token " + text: false,
	} {
		token, err := bootstrapToken(http.Header{"Authorization": {header}})
		if want && (err != nil || token.Reveal() != text) || !want && !errors.Is(err, ErrUnauthenticated) {
			t.Errorf("%.10q: %v", header, err)
		}
	}
}

// FuzzAuthorization: a header holds one whole token in one of two schemes, or nobody.
func FuzzAuthorization(f *testing.F) {
	text := identity.NewToken(identity.BootstrapToken).Reveal()
	for _, header := range []string{
		"Bearer " + text, "bearer\t" + text, "Bearer " + text[:40], "Bearer " + text + "," + text, "Basic " + base64.StdEncoding.EncodeToString([]byte("a:b:"+text)),
		"Basic " + base64.StdEncoding.EncodeToString([]byte("any:"+text)) + "=", "Basic", "Digest username=" + text,
	} {
		f.Add(header)
	}
	f.Fuzz(func(t *testing.T, header string) {
		token, err := bootstrapToken(http.Header{"Authorization": {header}})
		if err != nil {
			if !errors.Is(err, ErrUnauthenticated) || token.Reveal() != "" || len(header) > 20 && strings.Contains(err.Error(), header[10:]) {
				t.Fatalf("%q: %v", header, err)
			}
			return
		}
		scheme, credentials, _ := strings.Cut(header, " ")
		if strings.EqualFold(scheme, "Basic") {
			pair, err := base64.StdEncoding.DecodeString(strings.TrimSpace(credentials))
			if err != nil {
				t.Fatalf("%q is no base64 and has a token", header)
			}
			_, credentials, _ = strings.Cut(string(pair), ":")
		}
		if strings.TrimSpace(credentials) != token.Reveal() {
			t.Fatalf("%q is taken for a token", header)
		}
	})
}

func TestIdentifyNeedsTLS(t *testing.T) {
	trust := NewTrust(TrustConfig{Clock: time.Now, Limit: time.Minute})
	if _, err := trust.Identify(httptest.NewRequest(http.MethodGet, "/", nil)); !errors.Is(err, ErrUnauthenticated) {
		t.Errorf("without TLS: %v", err)
	}
	request := httptest.NewRequest(http.MethodGet, "/", nil)
	request.TLS = &tls.ConnectionState{}
	if _, err := trust.Identify(request); !errors.Is(err, ErrUnavailable) {
		t.Errorf("without trust: %v", err)
	}
}
