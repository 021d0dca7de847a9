// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rig"
	"gitlab.com/ampora/ampora/shared/ops/otlp/otlptest"
)

// TestSecretsStayWhereTheyBelong: what is secret of configurations, agents, tokens and keys is in clear in no stream and no
// register of Redis, in no table, in no log, trace and metric of any process.
func TestSecretsStayWhereTheyBelong(t *testing.T) {
	t.Parallel()
	receiver := otlptest.Start(t)
	s := rig.NewServer(t, rig.SplitRedis)
	for _, part := range s.Parts {
		part.Env["AMPORA_OTLP_ENDPOINT"], part.Env["AMPORA_OTLP_HEADERS"], part.Env["AMPORA_TRACE_RATIO"] = receiver.URL, "Authorization=canary-otlp", "1"
	}
	s.Start()
	ear := listen(t, s.Redis, s.Gateways())
	a, id := run(t, s, "secretive", agent.Apply)
	publish(t, s, "secret", "receivers: {nop: {}}\nexporters: {debug: {password: canary-config}}\nservice: {pipelines: {logs: {receivers: [nop], exporters: [debug]}}}\n")
	s.Do("configs", "assign", "secret", "--agent", id)
	awaitApplied(s, id, "secret")
	await(t, a, "the configuration", func(state agent.State) bool { return bytes.Contains(state.Running, []byte("canary-config")) })
	rig.Await(t, "the agent's report of it", func() string {
		return unless(strings.Contains(s.CLI("agents", "effective-config", id).Stdout, "canary-config"), "it is not there")
	})
	// An agent that is given its key, over the gateway.
	token := s.Issue()
	s.Supervisor("bootstrapped", rig.Example(t, "supervisor-bootstrap.yaml"), map[string]string{"AMPORA_BOOTSTRAP_TOKEN": token.GetSecret()}).Start()
	s.AwaitOnline(s.AwaitAgent(token.GetToken().GetId()))
	secrets := append(s.Secrets(), "canary-config", "canary-otlp", "PRIVATE KEY")
	redis := s.Redis.Everything()
	ear.stop()
	for _, m := range append(ear.messages("ampora:up:"), ear.messages("ampora:down:")...) {
		redis[m.stream] += m.payload
	}
	database := s.Database.Everything(t)
	if len(ear.messages("ampora:up:")) == 0 || len(ear.messages("ampora:down:")) == 0 || len(database) < 20 {
		t.Fatalf("there is too little to look through: %d tables", len(database))
	}
	if code := s.Stop(); code != 0 {
		t.Errorf("stopped with %d", code)
	}
	if len(receiver.Spans()) == 0 || len(receiver.Metrics()) == 0 || len(receiver.Logs()) == 0 {
		t.Fatal("nothing was told to the receiver of telemetry")
	}
	for _, secret := range secrets {
		for name, text := range redis {
			if strings.Contains(text, secret) {
				t.Errorf("Redis holds %.14s in %s", secret, name)
			}
		}
		for name, text := range database {
			if strings.Contains(text, secret) || strings.Contains(text, hex.EncodeToString([]byte(secret))) {
				t.Errorf("the database holds %.14s in %s", secret, name)
			}
		}
		if strings.Contains(receiver.Text(), secret) {
			t.Errorf("telemetry shows %.14s", secret)
		}
		if s.Logged(secret) {
			t.Errorf("a log shows %.14s", secret)
		}
	}
}
