// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package validator

import (
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/collector"
)

var quiet = slog.New(slog.DiscardHandler)

// peer is the other side of the wire: it has one build, which answers as told.
func peer(t *testing.T, answer func(Question) Answer) *Client {
	t.Helper()
	return at(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == PathBuilds {
			_ = json.NewEncoder(w).Encode(Builds{[]Build{{Name: "otelcol", Versions: []string{"v1"}}}})
			return
		}
		var q Question
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(answer(q))
	}))
}

func at(t *testing.T, h http.Handler) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	c, err := New("unix:"+socket, quiet)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var build = Key{"otelcol", "1"}

func check(t *testing.T, c *Client, body string) Verdict {
	t.Helper()
	model, err := collector.Parse([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return c.Check(t.Context(), model, []Key{build})[build]
}

func TestAddresses(t *testing.T) {
	for _, good := range []string{"unix:/run/s", "http://127.0.0.1:1", "http://[::1]:1/", "http://localhost:1"} {
		if c, err := New(good, quiet); err != nil || c == nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"unix:s", "127.0.0.1:1", "https://127.0.0.1:1", "http://10.0.0.1:1", "http://127.0.0.1", "http://example.com:80", "http://127.0.0.1:1/path"} {
		if _, err := New(bad, quiet); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
	if c, err := New("", quiet); c != nil || err != nil || c.Check(t.Context(), nil, []Key{build}) != nil {
		t.Error("without an address somebody is asked")
	}
}

func TestAnswers(t *testing.T) {
	const body = "exporters: {otlp: {endpoint: '${env:HOST}', token: hunter2}, nop: {foo: 1}}"
	for name, c := range map[string]struct {
		answer Answer
		want   Outcome
		why    string
	}{
		"accepted":       {Answer{Outcome: Accepted, Why: "boo"}, Accepted, ""},
		"refused":        {Answer{Outcome: Refused, Output: "Error: exporters::nop: foo"}, Refused, ""},
		"without a word": {Answer{Outcome: Refused}, Uncertain, ""},
		"a placeholder":  {Answer{Outcome: Refused, Output: "Error: exporters::otlp: foo"}, Uncertain, ""},
		"stopped":        {Answer{Outcome: Stopped, Why: "\x1b[2Jred\n"}, Stopped, "[2Jred"},
		"much":           {Answer{Outcome: Stopped, Why: strings.Repeat("ü", 1000)}, Stopped, strings.Repeat("ü", 150) + "…"},
		"not asked":      {Answer{Outcome: NotAsked, Why: "x"}, NotAsked, "x"},
		"made up":        {Answer{Outcome: "published"}, NotAsked, "the validator's answer is not understood"},
		"another's":      {Answer{Outcome: Uncertain}, NotAsked, "the validator's answer is not understood"},
	} {
		v := check(t, peer(t, func(q Question) Answer {
			if text := string(q.Config); strings.Contains(text, "HOST") || strings.Contains(text, "hunter2") || q.Name != "otelcol" || q.Version != "v1" {
				t.Errorf("%s: it is asked %+v: %s", name, q, text)
			}
			return c.answer
		}), body)
		if v.Outcome != c.want || v.Why != c.why || (len(v.Findings) > 0) != (c.want == Refused || c.want == Uncertain) {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

// TestPlaceholdersOfAnotherType: a build that complains of a placeholder is asked again, not for ever.
func TestPlaceholdersOfAnotherType(t *testing.T) {
	const complaint = "'exporters' error reading configuration for \"otlp\": decoding failed due to the following error(s):\n\n'insecure' expected type 'bool'\n"
	rounds := 0
	v := check(t, peer(t, func(q Question) Answer {
		rounds++
		if strings.Contains(string(q.Config), `"insecure": true`) {
			return Answer{Outcome: Accepted}
		}
		return Answer{Outcome: Refused, Output: complaint}
	}), "exporters: {otlp: {insecure: '${env:I}'}}")
	if v.Outcome != Accepted || rounds != 2 {
		t.Errorf("after %d rounds: %+v", rounds, v)
	}
	rounds = 0
	v = check(t, peer(t, func(Question) Answer {
		rounds++
		return Answer{Outcome: Refused, Output: complaint}
	}), "exporters: {otlp: {insecure: '${env:I}'}}")
	if v.Outcome != Uncertain || rounds > mostRounds {
		t.Errorf("after %d rounds: %+v", rounds, v)
	}
}

func TestBadPeers(t *testing.T) {
	list := func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == PathBuilds {
			_, _ = io.WriteString(w, `{"builds": [{"name": "otelcol", "versions": ["1"]}]}`)
		}
		return r.URL.Path == PathBuilds
	}
	for name, c := range map[string]struct {
		peer http.HandlerFunc
		why  string
	}{
		"broken":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "the validator does not answer"},
		"no JSON": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, "the validator does not answer"},
		"slow":    {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "the validator does not answer"},
		"elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			if !list(w, r) {
				http.Redirect(w, r, PathBuilds, http.StatusTemporaryRedirect)
			}
		}, "the validator gives no answer"},
		"busy": {func(w http.ResponseWriter, r *http.Request) {
			if !list(w, r) {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}, "the validator gives no answer"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for !list(w, r) {
				if _, err := io.WriteString(w, strings.Repeat(" ", 1<<16)); err != nil {
					return
				}
			}
		}, "the validator gives no answer"},
	} {
		begun := time.Now()
		v := check(t, at(t, c.peer), "{}")
		if v.Outcome != NotAsked || v.Why != c.why {
			t.Errorf("%s: %+v", name, v)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	away, err := New("unix:"+filepath.Join(t.TempDir(), "nothing"), quiet)
	if err != nil {
		t.Fatal(err)
	}
	if v := check(t, away, "{}"); v.Outcome != NotAsked || v.Why != "the validator does not answer" {
		t.Errorf("away: %+v", v)
	}
}

func TestNotAllAreAsked(t *testing.T) {
	var asked atomic.Int32
	var has Builds
	var keys []Key
	for i := range 2 * mostAsked {
		version := string(rune('a' + i))
		has.Builds = append(has.Builds, Build{Name: "otelcol", Versions: []string{version}})
		keys = append(keys, Key{"otelcol", version}, Key{"otelcol", version})
	}
	c := at(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == PathBuilds {
			_ = json.NewEncoder(w).Encode(has)
			return
		}
		asked.Add(1)
		_ = json.NewEncoder(w).Encode(Answer{Outcome: Accepted})
	}))
	model, err := collector.Parse([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	verdicts := c.Check(t.Context(), model, keys)
	if asked.Load() != mostAsked || len(verdicts) != 2*mostAsked {
		t.Errorf("%d are asked, and %d have a verdict", asked.Load(), len(verdicts))
	}
	for k, v := range verdicts {
		if v.Outcome != Accepted && v.Why != "more builds are in question than are asked at once" {
			t.Errorf("%v: %+v", k, v)
		}
	}
}
