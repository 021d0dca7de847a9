// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestAtRest: bodies, tokens and keys are in no file of the database in clear, whether
// they came from an operator or from an agent.
func TestAtRest(t *testing.T) {
	t.Parallel()
	s := rig.NewServer(t, rig.Development).Start()
	a, id := run(t, s, "secretive", agent.Apply)
	publish(t, s, "secret", "exporters: {debug: {password: hunter2-at-rest}}\n")
	assign(t, s, id, "secret", amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
	await(t, a, "the configuration", func(state agent.State) bool { return bytes.Contains(state.Running, []byte("hunter2-at-rest")) })
	rig.Await(t, "the agent's report of it", func() string {
		return unless(bytes.Contains([]byte(s.CLI("agents", "effective-config", id).Stdout), []byte("hunter2-at-rest")), "it is not there")
	})
	token := s.Issue().GetSecret()
	if code := s.Stop(); code != 0 {
		t.Errorf("ampora stopped with %d", code)
	}
	looked := 0
	data := os.DirFS(s.Env["AMPORA_DATA_DIR"])
	err := fs.WalkDir(data, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == "master.key" {
			return err
		}
		content, err := fs.ReadFile(data, path)
		if err != nil {
			return err
		}
		looked++
		for _, secret := range []string{"hunter2-at-rest", token, "PRIVATE KEY"} {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s holds %.12s in clear", path, secret)
			}
		}
		if info, err := entry.Info(); err != nil || (info.Mode().Perm()&0o077 != 0 && entry.Name() != "server-ca.pem") {
			t.Errorf("%s may be read by others: %v, %v", path, info.Mode(), err)
		}
		return nil
	})
	if err != nil || looked == 0 {
		t.Fatalf("looked at %d files: %v", looked, err)
	}
}
