// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"crypto/rand"
	"encoding/base64"
	"path/filepath"
	"testing"
)

// MasterKey makes a master key in a file, and returns its path.
func (s *Server) MasterKey(name string) (path string) {
	s.t.Helper()
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	text := base64.StdEncoding.EncodeToString(key)
	path = filepath.Join(s.Dir, name)
	write(s.t, path, []byte(text+"\n"))
	s.secrets = append(s.secrets, text)
	return path
}

// Master is the file of the present master key.
func (s *Server) Master() string { return s.master }

// Unlock gives the installation its master keys: what is started next has them, ampora-control among it. previous may be
// empty.
func (s *Server) Unlock(master, previous string) {
	s.master, s.previous = master, previous
	for _, part := range s.Parts {
		if _, has := part.Env["AMPORA_MASTER_KEY_FILE"]; !has {
			continue // a gateway has no master key
		}
		for name, value := range s.keyEnv() {
			part.Env[name] = value
		}
	}
}

// keyEnv is where a program of the control plane finds its master keys. A variable that is empty is none.
func (s *Server) keyEnv() map[string]string {
	return map[string]string{"AMPORA_MASTER_KEY_FILE": s.master, "AMPORA_PREVIOUS_MASTER_KEY_FILE": s.previous}
}

// BeginControl starts a command of ampora-control that goes on until it is killed, or ends by itself.
func (s *Server) BeginControl(name string, args ...string) *Process {
	s.t.Helper()
	return Start(s.t, s.controlCommand(name, s.Database.URL, args...))
}

// Hold runs a query of rows to be locked, and holds them until release is called.
func (d Database) Hold(t testing.TB, query string) (release func()) {
	t.Helper()
	db := connect(t, d.driver, d.source)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), query); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return func() {
		if err := tx.Rollback(); err != nil {
			t.Errorf("let go of %s: %v", query, err)
		}
	}
}
