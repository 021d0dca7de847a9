// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// watch begins a watch over the identity; end stops it and returns what came of it.
func (g *gateway) watch(flags ...string) (end func() outcome) {
	g.t.Helper()
	ctx, cancel := context.WithCancel(g.t.Context())
	done := make(chan outcome, 1)
	go func() {
		done <- g.runUntil(ctx, "", append([]string{"renew", "--watch", "--server", "https://127.0.0.1:4320", "--dir", g.dir}, flags...))
	}()
	return func() outcome {
		synctest.Wait()
		cancel()
		return <-done
	}
}

func TestWatchRenews(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		if got := g.enroll(g.token()); got.code != int(ExitOK) {
			t.Fatal(got.golden())
		}
		first := g.verify()
		end := g.watch()
		time.Sleep(12*time.Hour - time.Minute)
		if !g.verify().Equal(first) {
			t.Error("what was not due was renewed")
		}
		time.Sleep(3*time.Hour + 2*time.Minute) // a quarter of the time before the end
		second := g.verify()
		if second.Equal(first) {
			t.Error("what was due was not renewed")
		}
		time.Sleep(9 * 24 * time.Hour)
		g.verify() // it is valid
		got := end()
		if n := strings.Count(got.errOut, "renewed the certificate"); got.code != int(ExitOK) || n < 12 || n > 20 {
			t.Errorf("renewed %d times in ten days: %s", n, got.golden())
		}
	})
}

func TestWatchOutlivesTheGateway(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		if got := g.enroll(g.token()); got.code != int(ExitOK) {
			t.Fatal(got.golden())
		}
		first := g.read("cert.pem")
		end := g.watch()
		time.Sleep(12*time.Hour - time.Minute) // nothing is due yet
		requests := g.requests.Load()
		g.away.Store(true)
		time.Sleep(5 * time.Hour)
		if n := g.requests.Load() - requests; n < 3 || n > 20 {
			t.Errorf("it asked %d times in five hours", n)
		}
		if g.read("cert.pem") != first {
			t.Error("it was renewed by nobody")
		}
		g.away.Store(false)
		time.Sleep(time.Hour)
		if g.verify(); g.read("cert.pem") == first {
			t.Error("it was not renewed when the gateway came back")
		}
		if got := end(); got.code != int(ExitOK) || !strings.Contains(got.errOut, "trying again in") {
			t.Error(got.golden())
		}
	})
}

func TestWatchLeavesWhatAnotherRenewed(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		if got := g.enroll(g.token()); got.code != int(ExitOK) {
			t.Fatal(got.golden())
		}
		end := g.watch()
		time.Sleep(11 * time.Hour)
		if got := g.renew("--force"); got.code != int(ExitOK) {
			t.Fatal(got.golden())
		}
		second := g.verify()
		time.Sleep(11 * time.Hour)
		if !g.verify().Equal(second) {
			t.Error("it was renewed again, too early")
		}
		time.Sleep(5 * time.Hour)
		if g.verify().Equal(second) {
			t.Error("it was not renewed any more")
		}
		end()
	})
}

func TestWatchEndsWhenNothingHelps(t *testing.T) {
	for name, test := range map[string]struct {
		breaks func(*gateway)
		code   ExitCode
		words  string
	}{
		"revoked":     {func(g *gateway) { g.revoked.Store(true) }, ExitDenied, "not accepted"},
		"no identity": {func(g *gateway) { _ = os.RemoveAll(g.dir) }, ExitConflict, "no valid identity"},
	} {
		t.Run(name, func(t *testing.T) {
			inGateway(t, func(t *testing.T, g *gateway) {
				if got := g.enroll(g.token()); got.code != int(ExitOK) {
					t.Fatal(got.golden())
				}
				end := g.watch()
				time.Sleep(time.Hour + time.Minute)
				test.breaks(g)
				time.Sleep(15 * time.Hour)
				if got := end(); got.code != int(test.code) || !strings.Contains(got.errOut, test.words) {
					t.Error(got.golden())
				}
			})
		})
	}
}

// TestAfterRenewal: the command runs once for each renewal, with its arguments as they are, and again if it failed.
func TestAfterRenewal(t *testing.T) {
	inGateway(t, func(t *testing.T, g *gateway) {
		if got := g.enroll(g.token()); got.code != int(ExitOK) {
			t.Fatal(got.golden())
		}
		mark := filepath.Join(t.TempDir(), "ran $(as it is); and no more")
		ran := func() bool {
			err := os.Remove(mark)
			return err == nil
		}
		if got := g.renew("--", "touch", mark); got.code != int(ExitOK) || ran() {
			t.Error("before it was due:", got.golden())
		}
		if got := g.renew("--force", "--", "touch", mark); got.code != int(ExitOK) || !ran() {
			t.Error(got.golden())
		}
		if got := g.renew("--", "touch", mark); got.code != int(ExitOK) || ran() {
			t.Error("twice:", got.golden())
		}
		if got := g.renew("--force", "--", "false"); got.code != int(ExitError) || !strings.Contains(got.errOut, "false: exit status 1") {
			t.Error(got.golden())
		}
		if got := g.renew("--", "touch", mark); got.code != int(ExitOK) || !ran() {
			t.Error("after it failed:", got.golden())
		}
		if got := g.renew("touch"); got.code != int(ExitUsage) {
			t.Error("without dashes:", got.golden())
		}
		end := g.watch("--", "touch", mark)
		time.Sleep(16 * time.Hour)
		if got := end(); got.code != int(ExitOK) || !ran() {
			t.Error("by the watch:", got.golden())
		}
	})
}
