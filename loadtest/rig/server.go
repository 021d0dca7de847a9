// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
)

// Flavour is one of the shapes of Ampora.
type Flavour string

// The flavours: what a newcomer starts, and what operators run. Those in production mode
// have their own master key, server certificate and API token, a database that was
// migrated before, and a login that may do nothing but what the two roles may. The split
// ones are two gateways and two processes of the control plane behind a load balancer.
const (
	Development   Flavour = "sqlite"         // all in one, development mode on SQLite
	Production    Flavour = "postgresql"     // all in one, production mode on PostgreSQL
	SplitRedis    Flavour = "split-redis"    // split, around Redis
	SplitPostgres Flavour = "split-postgres" // split, with PostgreSQL as the bus too
)

// Flavours are all of them.
var Flavours = []Flavour{Development, Production, SplitRedis, SplitPostgres}

// Split says that the parts are processes of their own.
func (f Flavour) Split() bool { return f == SplitRedis || f == SplitPostgres }

// Server is one installation of Ampora, running or not.
type Server struct {
	t   testing.TB
	Dir string
	// OpAMP, API and PKI are the host:port of its listeners, or of the load balancer before them; Ops that of the all-in-one.
	OpAMP, API, PKI, Ops string
	// CAFile verifies the OpAMP listener.
	CAFile   string
	Database Database
	// Env is what the all-in-one is started with next, Wrapper a command line to put before it.
	Env     map[string]string
	Wrapper []string
	// Parts are its programs, in the order in which they are started: the all-in-one alone, or control processes before
	// gateways.
	Parts []*Part
	// Redis is the bus of a split installation that has one.
	Redis   *Redis
	flavour Flavour
	cliEnv  map[string]string
	master  string // the file of the master key
	// previous is that of the master key before, while it is being replaced.
	previous string
	secrets  []string // that no log may show
}

// NewServer prepares an installation; nothing runs yet.
func NewServer(t testing.TB, flavour Flavour) *Server {
	t.Helper()
	dir := t.TempDir()
	s := &Server{t: t, Dir: dir, flavour: flavour, OpAMP: FreeAddr(t), API: FreeAddr(t), Ops: FreeAddr(t), PKI: FreeAddr(t)}
	s.cliEnv = map[string]string{"AMPORA_SERVER": "http://" + s.API}
	t.Cleanup(s.keepsSecrets)
	if flavour.Split() {
		s.split()
		return s
	}
	s.Env = map[string]string{
		"AMPORA_DATA_DIR":         filepath.Join(dir, "data"),
		"AMPORA_HTTP_ADDR":        s.API,
		"AMPORA_PKI_ADDR":         s.PKI,
		"AMPORA_PKI_PUBLIC_URL":   "http://" + s.PKI,
		"AMPORA_OPAMP_ADDR":       s.OpAMP,
		"AMPORA_OPS_ADDR":         s.Ops,
		"AMPORA_OPAMP_PUBLIC_URL": s.OpAMPURL(),
		"AMPORA_DRAIN_DURATION":   "1s",
		"AMPORA_LOG_FORMAT":       "json",
	}
	s.Parts = []*Part{{server: s, Name: "ampora", program: "ampora", Ops: s.Ops, Env: s.Env}}
	if flavour == Development {
		s.CAFile = filepath.Join(dir, "data", "server-ca.pem")
		s.Database = SQLite(filepath.Join(dir, "data"))
		return s
	}
	s.Database = PostgreSQL(t)
	s.production()
	return s
}

// Secrets are those that the installation and its users were given so far.
func (s *Server) Secrets() []string { return slices.Clone(s.secrets) }

// Keep adds a secret to those that no log may show.
func (s *Server) Keep(secret string) {
	if secret != "" {
		s.secrets = append(s.secrets, secret)
	}
}

// keepsSecrets looks for what no log may show. It runs when everything has stopped.
func (s *Server) keepsSecrets() {
	for _, part := range s.Parts {
		if part.process == nil {
			continue
		}
		log := part.process.Log()
		for _, secret := range append(s.secrets, "PRIVATE KEY") {
			if strings.Contains(log, secret) {
				s.t.Errorf("the log of %s shows a secret that begins with %.12s", part.Name, secret)
			}
		}
	}
}

// production sets what an operator sets, and migrates.
func (s *Server) production() {
	s.t.Helper()
	maps.Copy(s.Env, s.controlEnv())
	maps.Copy(s.Env, s.listenerEnv())
	s.Env["AMPORA_AUTO_MIGRATE"] = "false"
	s.migrate()
}

// controlEnv makes a master key and returns what the control plane is given in production.
func (s *Server) controlEnv() map[string]string {
	s.t.Helper()
	s.master = s.MasterKey("master.key")
	return map[string]string{
		"AMPORA_MODE":            "production",
		"AMPORA_DATABASE_URL":    s.Database.URL,
		"AMPORA_MASTER_KEY_FILE": s.master,
		"AMPORA_TRUST_DOMAIN":    "e2e.example",
	}
}

// listenerEnv makes the certificate of the OpAMP listener and returns what gateways are given in production.
func (s *Server) listenerEnv() map[string]string {
	s.t.Helper()
	authority := NewAuthority(s.t)
	s.CAFile = filepath.Join(s.Dir, "server-ca.pem")
	cert, certKey := filepath.Join(s.Dir, "tls.crt"), filepath.Join(s.Dir, "tls.key")
	write(s.t, s.CAFile, authority.PEM())
	authority.Server(s.t, cert, certKey)
	return map[string]string{
		"AMPORA_OPAMP_TLS_CERT_FILE":  cert,
		"AMPORA_OPAMP_TLS_KEY_FILE":   certKey,
		"AMPORA_OPAMP_SERVER_CA_FILE": s.CAFile,
	}
}

// migrate brings the database to the schema and makes the first Admin.
func (s *Server) migrate() {
	s.t.Helper()
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
	s.secrets = append(s.secrets, strings.TrimSpace(admin.Stdout))
	s.cliEnv["AMPORA_TOKEN_FILE"] = token
}

// Control runs ampora-control on a database.
func (s *Server) Control(database string, args ...string) Result {
	s.t.Helper()
	return Run(s.t, s.controlCommand("ampora-control", database, args...), "")
}

func (s *Server) controlCommand(name, database string, args ...string) Command {
	s.t.Helper()
	env := map[string]string{"AMPORA_DATABASE_URL": database}
	maps.Copy(env, s.keyEnv())
	return Command{Name: name, Path: Ours(s.t, "ampora-control"), Args: args, Dir: s.Dir, Env: env, Stop: syscall.SIGTERM}
}

// Launch starts ampora and does not wait for it.
func (s *Server) Launch() *Process {
	s.t.Helper()
	if s.Database.driver == "sqlite" {
		if err := os.MkdirAll(s.Env["AMPORA_DATA_DIR"], 0o700); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.Parts[0].Launch()
}

// Start starts all parts and waits until they are ready.
func (s *Server) Start() *Server {
	s.t.Helper()
	if s.flavour.Split() {
		s.startSplit()
		return s
	}
	s.Launch()
	s.AwaitReady()
	return s
}

// AwaitReady waits until the readiness probes succeed. A program that ends fails the
// test at once.
func (s *Server) AwaitReady() {
	s.t.Helper()
	for _, part := range s.Parts {
		part.AwaitReady()
	}
}

// Stop stops all parts in order, gateways before control, and returns the highest exit code.
func (s *Server) Stop() (code int) {
	for _, part := range slices.Backward(s.Parts) {
		code = max(code, part.Stop())
	}
	return code
}

// Process is the running all-in-one.
func (s *Server) Process() *Process { return s.Parts[0].process }

// OpAMPURL is where agents connect.
func (s *Server) OpAMPURL() string { return "wss://" + s.OpAMP + rawopamp.Path }

// Ready asks the readiness probes.
func (s *Server) Ready() bool {
	for _, part := range s.Parts {
		if status, _ := part.ask("/health/ready"); status != http.StatusOK {
			return false
		}
	}
	return true
}

// Metric is the sum, over all parts, of the samples of a metric whose labels contain all
// those given, in the form name="value".
func (s *Server) Metric(name string, labels ...string) float64 {
	s.t.Helper()
	var sum float64
	for _, part := range s.Parts {
		sum += part.Metric(name, labels...)
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

// Logged reports whether a line of some part's log contains all the texts.
func (s *Server) Logged(texts ...string) bool {
	return slices.ContainsFunc(s.Parts, func(part *Part) bool { return part.Logged(texts...) })
}
