// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/sandbox"
	"gitlab.com/ampora/ampora/control/internal/validator"
)

// program is ampora-validator as it is shipped: linked statically.
var program string

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "validator")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(folder, "ampora-validator")
	build := exec.Command("go", "build", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := build.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, out))
	}
	code := m.Run()
	_ = os.RemoveAll(folder)
	os.Exit(code)
}

// folder has one build, which is our own program: it does not know how to validate.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	whole, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	manifest := fmt.Sprintf("builds: [{name: otelcol, versions: [1.2.3], sha256: %x, path: otelcol}]\n", sha256.Sum256(whole))
	for name, body := range map[string][]byte{"otelcol": whole, "builds.yaml": []byte(manifest)} {
		if err := os.WriteFile(filepath.Join(dir, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestItServesOrRefuses(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	// One that a killed validator left behind.
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	cmd := exec.Command(program)
	cmd.Env = []string{"AMPORA_VALIDATOR_ADDR=unix:" + socket, "AMPORA_VALIDATOR_BUILDS=" + folder(t)}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	var has validator.Builds
	for has.Builds == nil {
		select {
		case err := <-ended:
			if err == nil || !strings.Contains(log.String(), sandbox.ErrCannotIsolate.Error()) {
				t.Fatalf("it ended with %v: %s", err, &log)
			}
			t.Logf("this machine does not isolate, and it says so: %s", &log)
			return
		case <-time.After(20 * time.Millisecond):
		}
		response, err := client.Get("http://validator" + validator.PathBuilds)
		if err != nil {
			continue
		}
		if err := json.NewDecoder(response.Body).Decode(&has); err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
	}
	if len(has.Builds) != 1 || has.Builds[0].Name != "otelcol" {
		t.Errorf("it has %+v", has)
	}
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("the socket is %v, %v", info, err)
	}
	response, err := client.Post("http://validator"+validator.PathValidate, "application/json", strings.NewReader(`{"name": "otelcol", "version": "1.2.3"}`))
	if err != nil {
		t.Fatal(err)
	}
	var a validator.Answer
	if err := json.NewDecoder(response.Body).Decode(&a); err != nil || a.Outcome != validator.Refused || !strings.Contains(a.Output, `"validate" is not an option`) {
		t.Errorf("the build says %+v, %v", a, err)
	}
	_ = response.Body.Close()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil || !strings.Contains(log.String(), "stopped in order") {
		t.Errorf("it ended with %v: %s", err, &log)
	}
}

func TestSecretsAreRefused(t *testing.T) {
	for _, name := range []string{"AMPORA_MASTER_KEY", "AMPORA_MASTER_KEY_FILE", "AMPORA_DATABASE_URL", "AMPORA_TOKEN", "AMPORA_VALIDATION", "AMPORA_"} {
		var out bytes.Buffer
		err := start(t.Context(), nil, []string{"PATH=/bin", name + "=hunter2", "AMPORA_VALIDATOR_BUILDS=/nothing"}, &out, &out)
		if err == nil || !strings.Contains(err.Error(), name+", which may be or lead to a secret") || strings.Contains(err.Error()+out.String(), "hunter2") {
			t.Errorf("with %s: %v", name, err)
		}
	}
}

func TestConfigurations(t *testing.T) {
	for want, setting := range map[string]string{
		"AMPORA_VALIDATOR_BUILDS is required":              "",
		"AMPORA_VALIDATOR_ADDR must be unix: and an":       "AMPORA_VALIDATOR_ADDR=unix:s",
		"AMPORA_VALIDATOR_ADDR must be unix":               "AMPORA_VALIDATOR_ADDR=0.0.0.0:80",
		"AMPORA_VALIDATOR_CONCURRENT must be from 1 to 64": "AMPORA_VALIDATOR_CONCURRENT=0",
		"AMPORA_VALIDATOR_TIME must be":                    "AMPORA_VALIDATOR_TIME=1h",
		"AMPORA_VALIDATOR_MEMORY must be":                  "AMPORA_VALIDATOR_MEMORY=1",
		"did you mean AMPORA_VALIDATOR_THREADS":            "AMPORA_VALIDATOR_THREAD=16",
	} {
		environ := []string{setting}
		if setting != "" {
			environ = append(environ, "AMPORA_VALIDATOR_BUILDS=/nothing")
		}
		var out bytes.Buffer
		if err := start(t.Context(), nil, environ, &out, &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", setting, err)
		}
	}
	var out bytes.Buffer
	if err := start(t.Context(), []string{"--help"}, nil, &out, &out); err != nil || !strings.Contains(out.String(), "AMPORA_VALIDATOR_BUILDS") {
		t.Errorf("--help: %v", err)
	}
	if err := start(t.Context(), []string{"--builds"}, nil, &out, &out); err == nil {
		t.Error("an argument is taken")
	}
}
