// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
)

// Flavour is one of the two shapes of ampora.
type Flavour string

// The flavours: what a newcomer starts, and what an operator runs. Production has its
// own master key, server certificate and API token, a database that was migrated before,
// and a login that may do nothing but what the two roles may.
const (
	Development Flavour = "sqlite"     // development mode on SQLite
	Production  Flavour = "postgresql" // production mode on PostgreSQL
)

// Server is one installation of ampora, running or not.
type Server struct {
	t   testing.TB
	Dir string
	// OpAMP, API and Ops are the host:port of its listeners.
	OpAMP, API, Ops string
	// CAFile verifies the OpAMP listener.
	CAFile   string
	Database Database
	// Env is what it is started with next, Wrapper a command line to put before ampora's.
	Env     map[string]string
	Wrapper []string
	flavour Flavour
	cliEnv  map[string]string
	process *Process
	secrets []string // that no log may show
}

// NewServer prepares an installation; nothing runs yet.
func NewServer(t testing.TB, flavour Flavour) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{t: t, Dir: dir, flavour: flavour, OpAMP: FreeAddr(t), API: FreeAddr(t), Ops: FreeAddr(t)}
	s.cliEnv = map[string]string{"AMPORA_SERVER": "http://" + s.API}
	t.Cleanup(s.keepsSecrets)
	s.Env = map[string]string{
		"AMPORA_DATA_DIR":         filepath.Join(dir, "data"),
		"AMPORA_HTTP_ADDR":        s.API,
		"AMPORA_OPAMP_ADDR":       s.OpAMP,
		"AMPORA_OPS_ADDR":         s.Ops,
		"AMPORA_OPAMP_PUBLIC_URL": s.OpAMPURL(),
		"AMPORA_DRAIN_DURATION":   "1s",
		"AMPORA_LOG_FORMAT":       "json",
	}
	if flavour == Development {
		s.CAFile = filepath.Join(dir, "data", "server-ca.pem")
		s.Database = SQLite(filepath.Join(dir, "data"))
		return s
	}
	s.Database = PostgreSQL(t)
	s.production()
	return s
}

// keepsSecrets looks for what no log may show. It runs when everything has stopped.
func (s *Server) keepsSecrets() {
	if s.process == nil {
		return
	}
	log := s.process.Log()
	for _, secret := range append(s.secrets, "PRIVATE KEY") {
		if strings.Contains(log, secret) {
			s.t.Errorf("the log of ampora shows a secret that begins with %.12s", secret)
		}
	}
}

// production sets what an operator sets, and migrates.
func (s *Server) production() {
	s.t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	authority := NewAuthority(s.t)
	s.CAFile = filepath.Join(s.Dir, "server-ca.pem")
	cert, certKey, master := filepath.Join(s.Dir, "tls.crt"), filepath.Join(s.Dir, "tls.key"), filepath.Join(s.Dir, "master.key")
	write(s.t, s.CAFile, authority.PEM())
	authority.Server(s.t, cert, certKey)
	write(s.t, master, []byte(base64.StdEncoding.EncodeToString(key)+"\n"))
	for name, value := range map[string]string{
		"AMPORA_MODE":                 "production",
		"AMPORA_DATABASE_URL":         s.Database.URL,
		"AMPORA_AUTO_MIGRATE":         "false",
		"AMPORA_MASTER_KEY_FILE":      master,
		"AMPORA_TRUST_DOMAIN":         "e2e.example",
		"AMPORA_OPAMP_TLS_CERT_FILE":  cert,
		"AMPORA_OPAMP_TLS_KEY_FILE":   certKey,
		"AMPORA_OPAMP_SERVER_CA_FILE": s.CAFile,
	} {
		s.Env[name] = value
	}
	if up := s.Control(s.Database.Owner, "migrate", "up"); up.Code != 0 {
		s.t.Fatalf("migrate up: %d: %s", up.Code, up.Stderr)
	}
	s.Database.Grant(s.t)
	admin := s.Control(s.Database.URL, "bootstrap-admin")
	if admin.Code != 0 {
		s.t.Fatalf("bootstrap-admin: %d: %s", admin.Code, admin.Stderr)
	}
	token := filepath.Join(s.Dir, "api-token")
	write(s.t, token, []byte(admin.Stdout))
	s.secrets = append(s.secrets, strings.TrimSpace(admin.Stdout), base64.StdEncoding.EncodeToString(key))
	s.cliEnv["AMPORA_TOKEN_FILE"] = token
}

// Control runs ampora-control on a database.
func (s *Server) Control(database string, args ...string) Result {
	s.t.Helper()
	env := map[string]string{"AMPORA_DATABASE_URL": database}
	if master := s.Env["AMPORA_MASTER_KEY_FILE"]; master != "" {
		env["AMPORA_MASTER_KEY_FILE"] = master
	}
	return Run(s.t, Command{Name: "ampora-control", Path: Ours(s.t, "ampora-control"), Args: args, Dir: s.Dir, Env: env}, "")
}

// Launch starts ampora and does not wait for it.
func (s *Server) Launch() *Process {
	s.t.Helper()
	if s.Database.driver == "sqlite" {
		if err := os.MkdirAll(s.Env["AMPORA_DATA_DIR"], 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
	line := append(slices.Clone(s.Wrapper), Ours(s.t, "ampora"))
	s.process = Start(s.t, Command{Name: "ampora", Path: line[0], Args: line[1:], Dir: s.Dir, Env: s.Env, Stop: syscall.SIGTERM})
	return s.process
}

// Start starts ampora and waits until it is ready.
func (s *Server) Start() *Server {
	s.t.Helper()
	s.Launch()
	s.AwaitReady()
	return s
}

// AwaitReady waits until the readiness probe succeeds. A program that ends fails the
// test at once.
func (s *Server) AwaitReady() {
	s.t.Helper()
	Await(s.t, "ampora to be ready", func() string {
		select {
		case <-s.process.Exited():
			s.t.Fatalf("ampora ended with %d:\n%s", s.process.Exit(0), tail(s.process.Log(), 20))
		default:
		}
		status, text := s.ops("/health/ready")
		if status == http.StatusOK {
			return ""
		}
		return text
	})
}

// Stop stops ampora in order and returns its exit code.
func (s *Server) Stop() int { return s.process.Stop() }

// Process is the running program.
func (s *Server) Process() *Process { return s.process }

// OpAMPURL is where agents connect.
func (s *Server) OpAMPURL() string { return "wss://" + s.OpAMP + rawopamp.Path }

// Ready asks the readiness probe.
func (s *Server) Ready() bool {
	status, _ := s.ops("/health/ready")
	return status == http.StatusOK
}

func (s *Server) ops(path string) (status int, text string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Ops+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, err.Error()
	}
	return response.StatusCode, string(body)
}

// Metric is the sum of the samples of a metric whose labels contain all those given, in
// the form name="value".
func (s *Server) Metric(name string, labels ...string) float64 {
	s.t.Helper()
	status, text := s.ops("/metrics")
	if status != http.StatusOK {
		s.t.Fatalf("/metrics: %d %s", status, text)
	}
	var sum float64
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		if value, matches := sample(line, labels); matches {
			sum += value
		}
	}
	return sum
}

func sample(line string, labels []string) (value float64, matches bool) {
	for _, label := range labels {
		if !strings.Contains(line, label) {
			return 0, false
		}
	}
	fields := strings.Fields(line)
	err := json.Unmarshal([]byte(fields[len(fields)-1]), &value)
	return value, err == nil
}

// Roots verify the OpAMP listener.
func (s *Server) Roots() *x509.CertPool {
	s.t.Helper()
	text, err := os.ReadFile(s.CAFile)
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		s.t.Fatalf("%s: no certificates", s.CAFile)
	}
	return pool
}

// Stranger is a peer without any credential.
func (s *Server) Stranger() rawopamp.Peer {
	s.t.Helper()
	return rawopamp.Peer{Addr: s.OpAMP, TLS: &tls.Config{RootCAs: s.Roots(), MinVersion: tls.VersionTLS12}, Header: http.Header{}}
}

// Logged reports whether a line of ampora's log contains all the texts.
func (s *Server) Logged(texts ...string) bool {
	for line := range strings.Lines(s.process.Log()) {
		all := true
		for _, text := range texts {
			all = all && strings.Contains(line, text)
		}
		if all {
			return true
		}
	}
	return false
}
