// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"io/fs"
	"os"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/ops/otlp/otlptest"
)

// TestAtRest: bodies, tokens and keys are in no file of the database in clear, whether
// they came from an operator or from an agent; nor in what ampora tells of itself.
func TestAtRest(t *testing.T) {
	t.Parallel()
	receiver := otlptest.Start(t)
	s := rig.NewServer(t, rig.Development)
	s.Env["AMPORA_OTLP_ENDPOINT"], s.Env["AMPORA_OTLP_HEADERS"], s.Env["AMPORA_TRACE_RATIO"] = receiver.URL, "Authorization=hunter2-at-rest", "1"
	s.Start()
	a, id := run(t, s, "secretive", agent.Apply)
	publish(t, s, "secret", "receivers: {nop: {}}\nexporters: {debug: {password: hunter2-at-rest}}\nservice: {pipelines: {logs: {receivers: [nop], exporters: [debug]}}}\n")
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
	if len(receiver.Spans()) == 0 || len(receiver.Metrics()) == 0 || len(receiver.Logs()) == 0 {
		t.Fatal("ampora told nothing of itself")
	}
	for _, secret := range []string{"hunter2-at-rest", token, "PRIVATE KEY"} {
		if strings.Contains(receiver.Text(), secret) {
			t.Errorf("telemetry shows %.12s", secret)
		}
	}
}
