// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"crypto/tls"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// The parts of a split installation.
var (
	splitControls = []string{"control-1", "control-2"}
	splitGateways = []string{"gateway-1", "gateway-2"}
)

// split prepares two processes of the control plane and two gateways, with a load balancer
// before the API and one before the gateways.
func (s *Server) split() {
	s.t.Helper()
	s.Database = PostgreSQL(s.t)
	common, listener := s.controlEnv(), s.listenerEnv()
	s.migrate()
	buses := s.openBus()
	var apis, internals, agents, lists []string
	for _, name := range splitControls {
		part := s.part(name, "ampora-control")
		maps.Copy(part.Env, common)
		api, internal, list := FreeAddr(s.t), FreeAddr(s.t), FreeAddr(s.t)
		part.Env["AMPORA_PKI_ADDR"], part.Env["AMPORA_PKI_PUBLIC_URL"] = list, "http://"+s.PKI
		part.Env["AMPORA_HTTP_ADDR"], part.Env["AMPORA_INTERNAL_ADDR"] = api, internal
		part.Env["AMPORA_BUS_URL"] = buses[""]
		apis, internals, lists = append(apis, api), append(internals, "https://"+internal), append(lists, list)
	}
	for _, name := range splitGateways {
		part := s.part(name, "ampora-gateway")
		maps.Copy(part.Env, listener)
		addr := FreeAddr(s.t)
		agents = append(agents, addr)
		maps.Copy(part.Env, map[string]string{
			"AMPORA_OPAMP_ADDR":           addr,
			"AMPORA_OPAMP_PUBLIC_URL":     s.OpAMPURL(),
			"AMPORA_DRAIN_DURATION":       "1s",
			"AMPORA_CONTROL_URL":          strings.Join(internals, ","),
			"AMPORA_CONTROL_CA_FILE":      filepath.Join(s.Dir, "control-ca.pem"),
			"AMPORA_JOIN_TOKEN_FILE":      filepath.Join(s.Dir, name+".token"),
			"AMPORA_GATEWAY_IDENTITY_DIR": filepath.Join(s.Dir, name+"-identity"),
			"AMPORA_BUS_URL":              buses[name],
		})
	}
	balance(s.t, s.Dir, map[string][]string{s.API: apis, s.OpAMP: agents, s.PKI: lists})
}

func (s *Server) part(name, program string) *Part {
	part := &Part{server: s, Name: name, program: program, Ops: FreeAddr(s.t)}
	part.Env = map[string]string{"AMPORA_OPS_ADDR": part.Ops, "AMPORA_LOG_FORMAT": "json"}
	s.Parts = append(s.Parts, part)
	return part
}

// Gateways are the parts that agents connect to.
func (s *Server) Gateways() []*Part { return s.Parts[len(splitControls):] }

// Controls are the processes of the control plane.
func (s *Server) Controls() []*Part { return s.Parts[:len(splitControls)] }

// startSplit starts the control plane, lets the gateways join at their first start, and
// starts them.
func (s *Server) startSplit() {
	s.t.Helper()
	for _, part := range s.Controls() {
		part.Launch()
	}
	for _, part := range s.Controls() {
		part.AwaitReady()
	}
	s.awaitThrough(s.API, false)
	for _, part := range s.Gateways() {
		token := part.Env["AMPORA_JOIN_TOKEN_FILE"]
		if _, err := os.Stat(token); err != nil {
			s.Do("join-tokens", "issue", part.Name, "--out", token, "--ca-out", part.Env["AMPORA_CONTROL_CA_FILE"])
			text, err := os.ReadFile(token) //nolint:gosec // a file of the test
			if err != nil {
				s.t.Fatal(err)
			}
			s.secrets = append(s.secrets, strings.TrimSpace(string(text)))
		}
		part.Launch()
	}
	for _, part := range s.Gateways() {
		part.AwaitReady()
	}
	s.awaitThrough(s.OpAMP, true)
}

// awaitThrough waits until the load balancer has found somebody behind one of its addresses.
func (s *Server) awaitThrough(addr string, overTLS bool) {
	s.t.Helper()
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true}
	if overTLS {
		scheme, transport.TLSClientConfig = "https", &tls.Config{RootCAs: s.Roots(), MinVersion: tls.VersionTLS12}
	}
	client := http.Client{Transport: transport, Timeout: 2 * time.Second}
	Await(s.t, "the load balancer to find somebody behind "+addr, func() string {
		request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, scheme+"://"+addr+"/", nil)
		if err != nil {
			return err.Error()
		}
		response, err := client.Do(request)
		if err != nil {
			return err.Error()
		}
		_ = response.Body.Close()
		return ""
	})
}

// openBus makes the bus and returns its address for each gateway, and under "" that for the
// control plane.
func (s *Server) openBus() map[string]string {
	s.t.Helper()
	if s.flavour == SplitPostgres {
		return s.postgresBus()
	}
	passwords := map[string]string{"": secretText()}
	lines := []string{s.acl("", passwords[""])}
	for _, name := range splitGateways {
		passwords[name] = secretText()
		lines = append(lines, s.acl(name, passwords[name]))
	}
	s.Redis = StartRedis(s.t, filepath.Join(s.Dir, "redis"), lines)
	urls := map[string]string{"": fmt.Sprintf("redis://ampora-control:%s@%s", passwords[""], s.Redis.Addr)}
	for _, name := range splitGateways {
		urls[name] = fmt.Sprintf("redis://ampora-gateway-%s:%s@%s", name, passwords[name], s.Redis.Addr)
	}
	return urls
}

// postgresBus lets each gateway into the database under a login of its own.
func (s *Server) postgresBus() map[string]string {
	s.t.Helper()
	urls := map[string]string{"": "postgres"}
	for _, name := range splitGateways {
		login, address := s.Database.Login(s.t)
		if made := s.Control(s.Database.Owner, "bus", "admit", "--gateway", name, "--login", login); made.Code != 0 {
			s.t.Fatalf("bus admit: %d: %s", made.Code, made.Stderr)
		}
		urls[name] = address
	}
	return urls
}

// acl is the line that makes a user of Redis for a gateway, or for the control plane.
func (s *Server) acl(gateway, password string) string {
	s.t.Helper()
	s.secrets = append(s.secrets, password)
	file := filepath.Join(s.Dir, "redis-"+gateway+".password")
	write(s.t, file, []byte(password+"\n"))
	args := []string{"bus", "redis-user", "--password-file", file}
	if gateway != "" {
		args = append(args, "--gateway", gateway)
	}
	made := s.Control(s.Database.URL, args...)
	if made.Code != 0 {
		s.t.Fatalf("bus redis-user: %d: %s", made.Code, made.Stderr)
	}
	return strings.TrimSpace(made.Stdout)
}
