// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package kmstest

import (
	"bufio"
	"crypto/rand"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
)

// VaultServer is Vault's transit engine behind TLS.
type VaultServer struct {
	// Address, and the certificate in PEM that verifies it.
	Address, CAFile string
	// Token does not end. With Secret in place of a secret id or a pod's token one logs in.
	Token, Secret string
	// Requests are those so far, logins among them.
	Requests, Logins atomic.Int64

	trouble atomic.Pointer[func(http.ResponseWriter, *http.Request) bool]
}

// Trouble has do see every request before Vault does; true means that it is done with. Nil: no trouble.
func (v *VaultServer) Trouble(do func(http.ResponseWriter, *http.Request) bool) {
	if do == nil {
		do = func(http.ResponseWriter, *http.Request) bool { return false }
	}
	v.trouble.Store(&do)
}

// Vault starts one, whose tokens live for so long if they were logged in for.
func Vault(t testing.TB, life time.Duration) *VaultServer {
	t.Helper()
	v := &VaultServer{Token: "hvs." + rand.Text(), Secret: rand.Text()}
	v.Trouble(nil)
	program := exec.CommandContext(t.Context(), vaultProgram(t), "-root-token", v.Token, "-secret", v.Secret, "-token-life", life.String())
	program.Stderr = os.Stderr
	out, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = program.Process.Kill()
		_ = program.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("vaulttransit did not start: %v", err)
	}
	behind, err := url.Parse(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(behind)
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		v.Requests.Add(1)
		if strings.HasSuffix(r.URL.Path, "/login") {
			v.Logins.Add(1)
		}
		if !(*v.trouble.Load())(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(front.Close)
	v.Address, v.CAFile = front.URL, filepath.Join(t.TempDir(), "vault-ca.pem")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
	if err := os.WriteFile(v.CAFile, ca, 0o600); err != nil {
		t.Fatal(err)
	}
	return v
}

// Backend is the server as a key service; login is how to log in: attributes of a URI, beginning with a semicolon.
func (v *VaultServer) Backend(t testing.TB, drivers []kms.Driver, login string) Backend {
	t.Helper()
	return Backend{
		Driver: driver(t, drivers, "vaulttransit"), URI: "vaulttransit:address=" + v.Address + ";ca-file=" + v.CAFile + login,
		Missing: "vaulttransit:name=nobody;version=1",
		Away: func(away bool) {
			if !away {
				v.Trouble(nil)
				return
			}
			v.Trouble(func(http.ResponseWriter, *http.Request) bool { panic(http.ErrAbortHandler) })
		},
		Slow: func(by time.Duration) {
			v.Trouble(func(http.ResponseWriter, *http.Request) bool {
				time.Sleep(by)
				return false
			})
		},
	}
}

// TokenFile is a file with the token that does not end.
func (v *VaultServer) TokenFile(t testing.TB) string { return file(t, v.Token) }

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// SecretFile is a file with what logs in.
func (v *VaultServer) SecretFile(t testing.TB) string { return file(t, v.Secret) }

// vaultProgram is where infra/dev/tools.sh puts it, or on PATH.
func vaultProgram(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("vaulttransit"); err == nil {
		return path
	}
	work, err := exec.Command("go", "env", "GOWORK").Output()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(filepath.Dir(strings.TrimSpace(string(work))), ".tools", "bin", "vaulttransit")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("Vault's transit engine is missing: infra/dev/tools.sh vaulttransit: %v", err)
	}
	return path
}
