// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package builds

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/sandbox"
	"gitlab.com/ampora/ampora/control/internal/validator"
)

func TestMain(m *testing.M) {
	sandbox.Enter()
	folder, err := os.MkdirTemp("", "hostile")
	if err != nil {
		panic(err)
	}
	hostile = filepath.Join(folder, "hostile")
	build := exec.Command("go", "build", "-o", hostile, "../../sandbox/testdata/hostile")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// hostile is a program that passes for a Collector.
var hostile string

var limits = sandbox.Limits{Time: 4 * time.Second, CPU: 4 * time.Second, Memory: 1 << 30, Threads: 64, Files: 64, Output: 64 << 10}

// world is a folder with the hostile program, its service, and a client of that.
type world struct {
	folder string
	log    *bytes.Buffer
	*Folder

	url string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{folder: t.TempDir(), log: &bytes.Buffer{}}
	whole, err := os.ReadFile(hostile)
	if err != nil {
		t.Fatal(err)
	}
	w.write(t, "bad", string(whole))
	w.write(t, ManifestName, fmt.Sprintf("builds:\n  - {name: otelcol, versions: [v1.0.0, 1.1.0], sha256: %x, path: bad}\n", sha256.Sum256(whole)))
	w.Folder = w.opened(t)
	server := httptest.NewServer(w.Handler())
	t.Cleanup(server.Close)
	w.url = server.URL
	return w
}

func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(w.folder, name), []byte(text), 0o600); err != nil { //nolint:gosec // in the folder of the test
		t.Fatal(err)
	}
}

func (w *world) open() (*Folder, error) {
	return Open(Options{Path: w.folder, Limits: limits, Concurrent: 1, Log: slog.New(slog.NewTextHandler(w.log, nil))})
}

func (w *world) opened(t *testing.T) *Folder {
	t.Helper()
	f, err := w.open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

var key = validator.Key{Name: "otelcol", Version: "1.0.0"}

// check asks as the control plane does.
func (w *world) check(t *testing.T, config string, keys ...validator.Key) map[validator.Key]validator.Verdict {
	t.Helper()
	c, err := validator.New(w.url, slog.New(slog.NewTextHandler(w.log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	model, err := collector.Parse([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	return c.Check(t.Context(), model, keys)
}

// isolates reports whether this machine does. Where it does not, a verdict must say that nothing ran.
func isolates(t *testing.T, v validator.Verdict) bool {
	t.Helper()
	if v.Outcome != validator.NotAsked || !strings.Contains(v.Why, "in isolation") {
		return true
	}
	t.Logf("this machine does not isolate, and so nothing ran: %s", v.Why)
	return false
}

func TestHostileBuilds(t *testing.T) {
	t.Setenv("AMPORA_MASTER_KEY", "hunter2")
	w := newWorld(t)
	for _, c := range []struct {
		trick   string
		outcome validator.Outcome
		why     string
	}{
		{"", validator.Accepted, ""},
		{"sleep", validator.Stopped, "longer than 4s"},
		{"print", validator.Stopped, "printed more than 65536 bytes"},
		{"memory", validator.Stopped, "for want of memory"},
		{"crash", validator.Stopped, "code 2"},
		{"exit", validator.Stopped, "code 7"},
		{"look", validator.Refused, ""},
		{"write", validator.Refused, ""},
		{"fork", validator.Refused, ""},
		{"connect", validator.Refused, ""},
		{"breakOut", validator.Refused, ""},
	} {
		t.Run(c.trick, func(t *testing.T) {
			v := w.check(t, "{trick: '"+c.trick+"'}", key)[key]
			if !isolates(t, v) {
				return
			}
			if v.Outcome != c.outcome || !strings.Contains(v.Why, c.why) || (v.Outcome == validator.Refused) != (len(v.Findings) > 0) {
				t.Errorf("the verdict is %+v", v)
			}
			for _, f := range v.Findings {
				if strings.Contains(f.Message, ": done") || strings.Contains(f.Message, "hunter2") || f.Rule != collector.RuleValidate {
					t.Errorf("it says %+v", f)
				}
			}
		})
	}
}

func TestWhatIsShown(t *testing.T) {
	w := newWorld(t)
	v := w.check(t, "{trick: look, a: '${env:AMPORA_MASTER_KEY}', password: hunter2, exporters: {otlp: {password: hunter2}}}", key)[key]
	if !isolates(t, v) {
		return
	}
	var said strings.Builder
	for _, f := range v.Findings {
		said.WriteString(f.Message + "\n")
	}
	if !strings.Contains(said.String(), `"trick": "look"`) || strings.Contains(said.String(), "AMPORA") ||
		!strings.Contains(said.String(), `"a": {}`) || strings.Contains(strings.ReplaceAll(said.String(), `"password": "hunter2"`, ""), `"hunter2"`) {
		t.Errorf("it sees\n%s", said.String())
	}
}

func TestOnlyWhatTheManifestHas(t *testing.T) {
	w := newWorld(t)
	other, later := validator.Key{Name: "other", Version: "1.0.0"}, validator.Key{Name: "otelcol", Version: "2"}
	for k, v := range w.check(t, "{}", other, later, key, key) {
		if has := k == key; has == (v.Outcome == validator.NotAsked && v.Why == "the validator does not have this build") {
			t.Errorf("%v: %+v", k, v)
		}
	}
	a, err := w.Validate(t.Context(), validator.Question{Name: "../../bin/sh", Version: "1"})
	if err != nil || a.Outcome != validator.NotAsked {
		t.Errorf("another name: %+v, %v", a, err)
	}
	// It is replaced behind the manifest's back, while all runs.
	w.write(t, "bad", "#!/bin/sh\necho ran\nexit 1\n")
	if v := w.check(t, "{}", key)[key]; v.Outcome != validator.NotAsked || !strings.Contains(v.Why, "not the one of its manifest") {
		t.Errorf("a replaced build: %+v", v)
	}
	if !strings.Contains(w.log.String(), "digest") {
		t.Errorf("the log says %s", w.log)
	}
}

func TestManifests(t *testing.T) {
	w := newWorld(t)
	good := fmt.Sprintf("%x", sha256.Sum256([]byte("x")))
	w.write(t, "file", "x")
	outside := filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.WriteFile(outside, []byte("x"), 0o600), os.Symlink(outside, filepath.Join(w.folder, "link"))); err != nil {
		t.Fatal(err)
	}
	entry := func(name, versions, digest, path string) string {
		return fmt.Sprintf("  - {name: %s, versions: %s, sha256: %s, path: %s}\n", name, versions, digest, path)
	}
	for want, text := range map[string]string{
		"":                                 "builds:\n" + entry("a", "[1]", good, "file") + entry("a", "[2]", good, "./file"),
		"0 builds":                         "builds: []",
		"EOF":                              "",
		"field size not found":             "builds:\n  - {size: 1}\n",
		"no name":                          "builds:\n" + entry("''", "[1]", good, "file"),
		"no versions":                      "builds:\n" + entry("a", "[]", good, "file"),
		"64 hexadecimal digits":            "builds:\n" + entry("a", "[1]", "abc", "file"),
		"does not lead to a file in this":  "builds:\n" + entry("a", "[1]", good, "/bin/sh"),
		"\"../file\" does not lead":        "builds:\n" + entry("a", "[1]", good, "../file"),
		"escapes":                          "builds:\n" + entry("a", "[1]", good, "link"),
		"no such file":                     "builds:\n" + entry("a", "[1]", good, "nothing"),
		"is there twice":                   "builds:\n" + entry("a", "[1]", good, "file") + entry("a", "[v1]", good, "file"),
		sandbox.ErrDigest.Error() + ": it": "builds:\n" + entry("a", "[1]", strings.Repeat("0", 64), "file"),
	} {
		w.write(t, ManifestName, text)
		f, err := w.open()
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil {
			_ = f.Close()
		}
	}
	if _, err := Open(Options{Path: filepath.Join(w.folder, "nothing")}); err == nil {
		t.Error("a folder that is not there was opened")
	}
}

func TestNoMoreThanAreAllowed(t *testing.T) {
	w := newWorld(t)
	// One runs, as far as the others can tell, and as many wait as may.
	w.running <- struct{}{}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, mostWaiting)
	for range mostWaiting {
		go func() {
			_, err := w.Validate(ctx, validator.Question{Name: "otelcol", Version: "1.1.0"})
			ended <- err
		}()
	}
	for len(w.waiting) < mostWaiting {
		time.Sleep(time.Millisecond)
	}
	response, err := http.Post(w.url+validator.PathValidate, "application/json", strings.NewReader(`{"name":"otelcol","version":"v1.0.0"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("one more is answered %s", response.Status)
	}
	cancel()
	for range mostWaiting {
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("who waited in vain hears %v", err)
		}
	}
	<-w.running
	if len(w.waiting) != 0 || len(w.running) != 0 {
		t.Errorf("%d wait and %d run after the end", len(w.waiting), len(w.running))
	}
}

func TestBadQuestions(t *testing.T) {
	w := newWorld(t)
	long := bytes.Repeat([]byte(" "), longestQuestion+1)
	for _, c := range []struct {
		method, kind string
		body         []byte
		status       int
	}{
		{http.MethodPost, "application/json", []byte("{"), http.StatusBadRequest},
		{http.MethodPost, "application/json", []byte(`{"config": 1}`), http.StatusBadRequest},
		{http.MethodPost, "application/json", long, http.StatusRequestEntityTooLarge},
		{http.MethodPost, "text/plain", []byte("{}"), http.StatusUnsupportedMediaType},
		{http.MethodGet, "application/json", nil, http.StatusMethodNotAllowed},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, w.url+validator.PathValidate, bytes.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", c.kind)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != c.status {
			t.Errorf("%s %.20q is answered %s", c.method, c.body, response.Status)
		}
	}
}
