// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// InVault has the control plane of a split installation keep the keys of its authorities in the transit engine of Vault,
// and returns what stands between the two.
func (s *Server) InVault() *Proxy {
	s.t.Helper()
	token := "hvs." + rand.Text()
	s.secrets = append(s.secrets, token)
	file := filepath.Join(s.Dir, "vault-token")
	write(s.t, file, []byte(token+"\n"))
	vault := Start(s.t, Command{Name: "vault", Path: vaultProgram(s.t), Args: []string{"-root-token", token}, Dir: s.Dir, Stop: syscall.SIGTERM})
	var address string
	Await(s.t, "Vault to say where it listens", func() string {
		said, whole := strings.CutSuffix(vault.Log(), "\n")
		if address = said; !whole {
			return "it says " + said
		}
		return ""
	})
	proxy, through := Through(s.t, address)
	proxy.Join()
	for _, part := range s.Controls() {
		part.Env["AMPORA_PKI_KMS"] = "vaulttransit:address=" + through + ";token-file=" + file
		part.Env["AMPORA_PKI_KMS_TIMEOUT"] = "2s"
	}
	return proxy
}

// vaultProgram is what infra/dev/tools.sh vaulttransit builds.
func vaultProgram(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("vaulttransit"); err == nil {
		return path
	}
	path := filepath.Join(Root(t), ".tools", "bin", "vaulttransit")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("Vault's transit engine is missing: infra/dev/tools.sh vaulttransit: %v", err)
	}
	return path
}
