// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

func TestRenew(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		if got := g.enroll(g.token()); got.code != int(ExitOK) {
			t.Fatal(got.golden())
		}
		first := g.verify()
		// Certificates here live for a day: they are due after half of it, unless "before" says less.
		if got := g.renew("--before", "1h"); got.code != int(ExitOK) || !strings.Contains(got.errOut, "not due") {
			t.Error(got.golden())
		}
		if !g.verify().Equal(first) {
			t.Error("what was not due was renewed")
		}
		time.Sleep(23 * time.Hour)
		if got := g.renew("--before", "1h"); got.code != int(ExitOK) || !strings.Contains(got.errOut, "renewed the certificate") {
			t.Error(got.golden())
		}
		second := g.verify()
		if second.Equal(first) || second.URIs[0].String() != first.URIs[0].String() || string(second.RawSubjectPublicKeyInfo) == string(first.RawSubjectPublicKeyInfo) {
			t.Errorf("after %v there is %v", first.URIs, second.URIs)
		}
		if got := g.renew("--before", "1h", "--force"); got.code != int(ExitOK) || g.verify().Equal(second) {
			t.Error(got.golden())
		}
	})
}

// The answer is lost: the same key is certified by the next run.
func TestRenewAfterALostAnswer(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		if got := g.enroll(g.token()); got.code != int(ExitOK) {
			t.Fatal(got.golden())
		}
		before := g.read("cert.pem")
		g.answer = func(w http.ResponseWriter, _ []byte) { panic(http.ErrAbortHandler) }
		time.Sleep(13 * time.Hour)
		if got := g.renew(); got.code != int(ExitUnavailable) {
			t.Error(got.golden())
		}
		if g.read("cert.pem") != before {
			t.Error("what was there is not")
		}
		signed := len(g.issued)
		if got := g.renew(); got.code != int(ExitOK) {
			t.Error(got.golden())
		}
		g.verify()
		if len(g.issued) != signed {
			t.Errorf("%d certificates were signed, %d before", len(g.issued), signed)
		}
	})
}

func TestRenewThatFails(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		if got := g.renew(); got.code != int(ExitConflict) {
			t.Error("without a folder:", got.golden())
		}
		if _, err := os.Stat(g.dir); err == nil {
			t.Error("the folder was made")
		}
		if got := g.enroll(g.token()); got.code != int(ExitOK) {
			t.Fatal(got.golden())
		}
		if got := g.renew("--before", "-1h"); got.code != int(ExitUsage) {
			t.Error("before a negative time:", got.golden())
		}
		time.Sleep(13 * time.Hour)
		g.revoked.Store(true)
		if got := g.renew(); got.code != int(ExitDenied) || !strings.Contains(got.errOut, "certificate is not accepted") {
			t.Error("revoked:", got.golden())
		}
		time.Sleep(48 * time.Hour)
		if got := g.renew(); got.code != int(ExitConflict) || !strings.Contains(got.errOut, "expired") {
			t.Error("expired:", got.golden())
		}
	})
}
