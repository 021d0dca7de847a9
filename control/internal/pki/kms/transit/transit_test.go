// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package transit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/kmstest"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/transit"
	"gitlab.com/ampora/ampora/shared/fault"
)

var drivers = []kms.Driver{transit.Driver}

const limit = 10 * time.Second

func TestTransit(t *testing.T) {
	vault := kmstest.Vault(t, time.Hour)
	kmstest.Run(t, vault.Backend(t, drivers, ";token-file="+vault.TokenFile(t)))
}

// TestLogins logs in in each way, and works with it for longer than a token lives.
func TestLogins(t *testing.T) {
	const life = 3 * time.Second
	vault := kmstest.Vault(t, life)
	for name, login := range map[string]string{
		"AppRole":    ";role-id-file=" + vault.TokenFile(t) + ";secret-id-file=" + vault.SecretFile(t),
		"Kubernetes": ";kubernetes-role=ampora;jwt-file=" + vault.SecretFile(t),
	} {
		t.Run(name, func(t *testing.T) {
			vault.Logins.Store(0)
			services := vault.Backend(t, drivers, login).Open(t, limit)
			key := kmstest.Create(t, services, kms.ECDSAP256)
			signer := services.Signer(key.URI, key.Public)
			for began := time.Now(); time.Since(began) < life+time.Second; time.Sleep(100 * time.Millisecond) {
				if err := kmstest.Sign(signer); err != nil {
					t.Fatalf("after %s: %v", time.Since(began), err)
				}
			}
			if logins := vault.Logins.Load(); logins < 2 || logins > 4 {
				t.Errorf("logged in %d times within %s with tokens of %s", logins, life+time.Second, life)
			}
		})
	}
}

// TestATokenIsReadAnew: whoever keeps it alive writes another into the file.
func TestATokenIsReadAnew(t *testing.T) {
	vault := kmstest.Vault(t, time.Hour)
	file := vault.TokenFile(t)
	services := vault.Backend(t, drivers, ";token-file="+file).Open(t, limit)
	key := kmstest.Create(t, services, kms.ECDSAP256)
	signer := services.Signer(key.URI, key.Public)
	put := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, bad := range []string{"hvs.wrong", "", "two\nlines"} {
		put(bad)
		if err := kmstest.Sign(signer); !fault.Is(err, kms.ReasonUnavailable) {
			t.Errorf("with the token %q: %v", bad, err)
		}
	}
	put(vault.Token)
	if err := kmstest.Sign(signer); err != nil {
		t.Error(err)
	}
}

// TestWhatIsNotAllowedIsNotLoggedInForAgainAndAgain: each login leaves a lease in Vault.
func TestWhatIsNotAllowedIsNotLoggedInForAgainAndAgain(t *testing.T) {
	vault := kmstest.Vault(t, time.Hour)
	services := vault.Backend(t, drivers, ";kubernetes-role=ampora;jwt-file="+vault.SecretFile(t)).Open(t, limit)
	key := kmstest.Create(t, services, kms.ECDSAP256)
	vault.Trouble(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/sign/") {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, `{"errors":["1 error occurred:\n\t* permission denied\n\n"]}`)
			return true
		}
		return false
	})
	for range 20 {
		if err := kmstest.Sign(services.Signer(key.URI, key.Public)); !fault.Is(err, kms.ReasonUnavailable) || !strings.Contains(err.Error(), "permission denied") {
			t.Fatal(err)
		}
	}
	if logins := vault.Logins.Load(); logins != 1 {
		t.Errorf("logged in %d times", logins)
	}
}

func TestSealedIsTriedAgain(t *testing.T) {
	vault := kmstest.Vault(t, time.Hour)
	services := vault.Backend(t, drivers, ";token-file="+vault.TokenFile(t)).Open(t, limit)
	key := kmstest.Create(t, services, kms.ECDSAP256)
	signer := services.Signer(key.URI, key.Public)
	if err := kmstest.Sign(signer); err != nil {
		t.Fatal(err)
	}
	var left atomic.Int32
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusPreconditionFailed, http.StatusBadGateway} {
		left.Store(2)
		vault.Trouble(func(w http.ResponseWriter, _ *http.Request) bool {
			if left.Add(-1) < 0 {
				return false
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, `{"errors":["Vault is sealed"]}`)
			return true
		})
		if err := kmstest.Sign(signer); err != nil || left.Load() >= 0 {
			t.Errorf("%d, twice: %v", status, err)
		}
	}
}

// TestTheTokenGoesNowhereElse: an answer that points elsewhere is not followed.
func TestTheTokenGoesNowhereElse(t *testing.T) {
	var reached atomic.Int32
	elsewhere := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer elsewhere.Close()
	vault := kmstest.Vault(t, time.Hour)
	services := vault.Backend(t, drivers, ";token-file="+vault.TokenFile(t)).Open(t, limit)
	key := kmstest.Create(t, services, kms.ECDSAP256)
	for _, target := range []string{elsewhere.URL + "/v1/transit/x", "http://127.0.0.1:1/", "/v1/transit/keys/x"} {
		vault.Trouble(func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, target, http.StatusTemporaryRedirect)
			return true
		})
		if err := kmstest.Sign(services.Signer(key.URI, key.Public)); !fault.Is(err, kms.ReasonUnavailable) || !strings.Contains(err.Error(), "points elsewhere") {
			t.Errorf("%s: %v", target, err)
		}
	}
	if reached.Load() != 0 {
		t.Error("it was followed")
	}
}

// TestAnswersThatAreNone are refused, however long they are.
func TestAnswersThatAreNone(t *testing.T) {
	vault := kmstest.Vault(t, time.Hour)
	services := vault.Backend(t, drivers, ";token-file="+vault.TokenFile(t)).Open(t, 2*time.Second)
	key := kmstest.Create(t, services, kms.ECDSAP256)
	signer := services.Signer(key.URI, key.Public)
	if err := kmstest.Sign(signer); err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]string{
		"no JSON": "<html>", "nothing": "", "no signature": `{"data":{}}`, "another version": `{"data":{"signature":"vault:v2:AAAA"}}`,
		"no base64": `{"data":{"signature":"vault:v1:%%%"}}`, "another signature": `{"data":{"signature":"vault:v1:MAYCAQECAQE="}}`,
		"16 MiB": strings.Repeat("x", 16<<20),
	} {
		vault.Trouble(func(w http.ResponseWriter, _ *http.Request) bool {
			_, _ = io.WriteString(w, body)
			return true
		})
		want := kms.ReasonUnavailable
		if name == "another signature" {
			want = kms.ReasonWrongKey
		}
		if err := kmstest.Sign(signer); !fault.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTheNamespaceIsSaid, and the version of the key, and that a digest is signed.
func TestWhatIsSent(t *testing.T) {
	vault := kmstest.Vault(t, time.Hour)
	services := vault.Backend(t, drivers, ";namespace=teams/fleet;token-file="+vault.TokenFile(t)).Open(t, limit)
	key := kmstest.Create(t, services, kms.RSA3072)
	var sent map[string]any
	vault.Trouble(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Vault-Namespace") != "teams/fleet" {
			t.Errorf("the namespace is %q", r.Header.Get("X-Vault-Namespace"))
		}
		if strings.Contains(r.URL.Path, "/sign/") {
			body, _ := io.ReadAll(r.Body)
			_ = json.Unmarshal(body, &sent)
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		return false
	})
	if err := kmstest.Sign(services.Signer(key.URI, key.Public)); err != nil {
		t.Fatal(err)
	}
	if sent["key_version"] != 1.0 || sent["prehashed"] != true || sent["signature_algorithm"] != "pkcs1v15" {
		t.Errorf("sent %v", sent)
	}
}

func TestServicesThatAreRefused(t *testing.T) {
	for name, uri := range map[string]string{
		"no address":          "vaulttransit:token-file=/t",
		"no login":            "vaulttransit:address=https://vault:8200",
		"two logins":          "vaulttransit:address=https://vault:8200;token-file=/t;kubernetes-role=x",
		"half an AppRole":     "vaulttransit:address=https://vault:8200;role-id-file=/r",
		"clear text":          "vaulttransit:address=http://vault:8200;token-file=/t",
		"a token":             "vaulttransit:address=https://vault:8200;token=hvs.secret",
		"a secret id":         "vaulttransit:address=https://vault:8200;role-id-file=/r;secret-id=secret",
		"a user":              "vaulttransit:address=https://u:secret@vault:8200;token-file=/t",
		"a path":              "vaulttransit:address=https://vault:8200/v1;token-file=/t",
		"a mount that climbs": "vaulttransit:address=https://vault:8200;token-file=/t;mount=../sys",
		"an unknown word":     "vaulttransit:address=https://vault:8200;token-file=/t;tokenfile=x",
		"an authority":        "vaulttransit://vault:8200?token-file=/t",
	} {
		_, err := kms.Open(kms.Config{Home: uri}, kms.Deps{Drivers: drivers, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}})
		if err == nil || strings.Contains(err.Error(), "secret\"") || strings.Contains(err.Error(), "hvs.") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAStrangersCertificateIsNotBelieved(t *testing.T) {
	vault := kmstest.Vault(t, time.Hour)
	services, err := kms.Open(kms.Config{Home: "vaulttransit:address=" + vault.Address + ";token-file=" + vault.TokenFile(t), Limit: 2 * time.Second},
		kms.Deps{Drivers: drivers, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := services.Create(context.Background(), "x", kms.ECDSAP256); !fault.Is(err, kms.ReasonUnavailable) || vault.Requests.Load() != 0 {
		t.Errorf("without its authority: %v, %d requests", err, vault.Requests.Load())
	}
}
