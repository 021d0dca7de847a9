// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
)

// bad is one case of docs/operator/bad-input.md against one installation. What is to be
// seen comes from the table: a case that is observed otherwise fails, whichever is right.
type bad struct {
	*testing.T
	flavour rig.Flavour
	s       *rig.Server // shared by the cases of a flavour; one that stops it has its own
	row     row
}

// badInput has the test of each case.
var badInput = map[string]func(*bad){
	"token-truncated":       tokenTruncated,
	"token-unknown":         tokenUnknown,
	"token-expired":         tokenExpired,
	"token-reused":          tokenReused,
	"token-revoked":         tokenRevoked,
	"cert-foreign-ca":       certForeignCA,
	"cert-expired":          certExpired,
	"cert-other-tenant":     certOtherTenant,
	"cert-revoked":          certRevoked,
	"csr-malformed":         csrMalformed,
	"csr-oversized":         csrOversized,
	"csr-wrong-key":         csrWrongKey,
	"csr-key-refused":       csrKeyRefused,
	"csr-asks-for-more":     csrAsksForMore,
	"frame-oversized":       frameOversized,
	"frame-malformed":       frameMalformed,
	"frame-compressed-bomb": frameCompressedBomb,
	"frame-headerless":      frameHeaderless,
	"uid-length":            uidLength,
	"uid-foreign":           uidForeign,
	"sequence-gap":          sequenceGap,
	"sequence-duplicate":    sequenceDuplicate,
	"config-not-yaml":       configNotYAML,
	"db-away-at-start":      dbAwayAtStart,
	"db-away-in-flight":     dbAwayInFlight,
	"disk-full":             diskFull,
	"migrate-twice-at-once": migrateTwiceAtOnce,
	"schema-newer":          schemaNewer,
	"sigterm-under-load":    sigtermUnderLoad,
}

// onlyOn names the cases that one of the databases cannot get into: a file is never
// away, and the disk of a database server is not ours to fill.
var onlyOn = map[string]rig.Flavour{
	"db-away-at-start":  rig.Production,
	"db-away-in-flight": rig.Production,
	"disk-full":         rig.Development,
}

// TestBadInput runs every case of the table, and finds cases without a test and tests
// without a case.
func TestBadInput(t *testing.T) {
	table := readTable(t)
	for _, id := range slices.Sorted(maps.Keys(table)) {
		if badInput[id] == nil {
			t.Errorf("case %s has no test", id)
		}
	}
	inOneProcess(t, func(t *testing.T, s *rig.Server) {
		flavour := rig.Flavour(filepath.Base(t.Name()))
		for _, id := range slices.Sorted(maps.Keys(badInput)) {
			if only := onlyOn[id]; only != "" && only != flavour {
				continue
			}
			t.Run(id, func(t *testing.T) {
				row, found := table[id]
				if !found {
					t.Fatal("there is no such case in docs/operator/bad-input.md")
				}
				badInput[id](&bad{T: t, flavour: flavour, s: s, row: row})
			})
		}
	})
}

// row is one row of the table, cell by cell.
type row struct{ id, sent, sees, logs, stored string }

func readTable(t *testing.T) map[string]row {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(rig.Root(t), "docs", "operator", "bad-input.md"))
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]row{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 5 || !strings.HasPrefix(strings.TrimSpace(cells[0]), "`") {
			continue
		}
		id := strings.Trim(strings.TrimSpace(cells[0]), "`")
		table[id] = row{id: id, sent: cells[1], sees: cells[2], logs: cells[3], stored: cells[4]}
	}
	if len(table) == 0 {
		t.Fatal("docs/operator/bad-input.md has no table")
	}
	return table
}

var (
	statusWord    = regexp.MustCompile("(?:HTTP|HTTP:) `([0-9]{3})`")
	closeWord     = regexp.MustCompile("close `([0-9]{4})`")
	exitWord      = regexp.MustCompile("exit `([0-9]+)`")
	rejectionWord = regexp.MustCompile(`rejections\{([a-z_]+)\}`)
	reasonWord    = regexp.MustCompile("`([A-Z]{2,}(?:_[A-Z]+)+)`")
)

func (b *bad) status() int       { return b.number(statusWord, b.row.sees) }
func (b *bad) close() int        { return b.number(closeWord, b.row.sees) }
func (b *bad) exit() int         { return b.number(exitWord, b.row.sees) }
func (b *bad) rejection() string { return b.word(rejectionWord, b.row.logs) }
func (b *bad) reason() string    { return b.word(reasonWord, b.row.sees+b.row.logs+b.row.stored) }

func (b *bad) word(pattern *regexp.Regexp, cell string) string {
	b.Helper()
	match := pattern.FindStringSubmatch(cell)
	if match == nil {
		b.Fatalf("the table says nothing like %s in: %s", pattern, cell)
	}
	return match[1]
}

func (b *bad) number(pattern *regexp.Regexp, cell string) int {
	b.Helper()
	n, err := strconv.Atoi(b.word(pattern, cell))
	if err != nil {
		b.Fatal(err)
	}
	return n
}

var lastAddress atomic.Uint32

// stranger is a peer at an address of its own, so that penalties stay with their cases.
func (b *bad) stranger() rawopamp.Peer {
	peer := b.s.Stranger()
	n := lastAddress.Add(1)
	peer.From = net.IPv4(127, 77, byte(n>>8), byte(n))
	return peer
}

// counted returns a check that the case's rejection was counted and logged since.
func (b *bad) counted() (check func(words ...string)) {
	b.Helper()
	reason := b.rejection()
	label := fmt.Sprintf("reason=%q", reason)
	before := b.s.Metric("ampora_gateway_rejections_total", label)
	return func(words ...string) {
		b.Helper()
		rig.Await(b, "the rejection to be counted", func() string {
			if now := b.s.Metric("ampora_gateway_rejections_total", label); now <= before {
				return fmt.Sprintf("%s is still %v", label, now)
			}
			return ""
		})
		if !b.s.Logged(append([]string{`"msg":"rejected"`, fmt.Sprintf(`"reason":%q`, reason)}, words...)...) {
			b.Errorf("no line of the log says rejected, %s, %q", reason, words)
		}
	}
}

// kept is what must not change through bad input.
type kept struct{ agents, certificates, versions, refusals int }

func (b *bad) kept() kept {
	b.Helper()
	return kept{
		agents:       b.s.Database.Count(b, "SELECT count(*) FROM agents"),
		certificates: b.s.Database.Count(b, "SELECT count(*) FROM certificates"),
		versions:     b.s.Database.Count(b, "SELECT count(*) FROM config_versions"),
		refusals:     b.s.Database.Count(b, "SELECT coalesce(sum(count), 0) FROM audit_refusals"),
	}
}

// unchanged returns a check that nothing was stored since but that many refusals.
func (b *bad) unchanged() (check func(refusals int)) {
	b.Helper()
	before := b.kept()
	return func(refusals int) {
		b.Helper()
		before.refusals += refusals
		var now kept
		rig.AwaitFor(b, 10*time.Second, "what is stored", func() string {
			if now = b.kept(); now != before {
				return fmt.Sprintf("%+v, want %+v", now, before)
			}
			return ""
		})
	}
}

// refused expects an upgrade to be refused with a status.
func (b *bad) refused(err error, status int) {
	b.Helper()
	refusal, ok := errors.AsType[*rawopamp.StatusError](err)
	if !ok || refusal.Status != status {
		b.Fatalf("the answer was %v, want %d", err, status)
	}
	if status == 503 && refusal.RetryAfter == "" {
		b.Error("503 without Retry-After")
	}
}

// boxed expects a peer to be made to wait.
func (b *bad) boxed(peer rawopamp.Peer) {
	b.Helper()
	conn, err := peer.Dial(b.Context())
	if err == nil {
		_ = conn.Close()
	}
	b.refused(err, 503)
}
