// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// pipeline is a collector configuration whose doing can be seen from outside: it takes
// traces over OTLP/HTTP at an address of its own, and carries a mark.
type pipeline struct {
	addr, mark string
}

func newPipeline(t *testing.T, mark string) pipeline {
	return pipeline{addr: rig.FreeAddr(t), mark: mark}
}

func (p pipeline) yaml() string {
	return fmt.Sprintf(`# ends with blanks and CRLF, which must arrive as they are   `+"\r\n"+`receivers:
  otlp:
    protocols:
      http:
        endpoint: %s
processors:
  attributes:
    actions:
      - {key: mark, value: %s, action: upsert}
exporters:
  debug: {}
service:
  pipelines:
    traces:
      receivers: [otlp]
      processors: [attributes]
      exporters: [debug]
`, p.addr, p.mark)
}

// broken is a mapping that can be published, and that no collector takes.
func broken(name string) string {
	return fmt.Sprintf(`receivers:
  %s: {}
exporters:
  debug: {}
service:
  pipelines:
    logs/broken:
      receivers: [%s]
      exporters: [debug]
`, name, name)
}

// awaitRunning waits until the collector really takes traces at the pipeline's address.
func (p pipeline) awaitRunning(t *testing.T) {
	t.Helper()
	rig.Await(t, "the collector to take traces at "+p.addr, func() string {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.addr+"/v1/traces", strings.NewReader(`{"resourceSpans":[]}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return response.Status
		}
		return ""
	})
}

// publish creates a configuration with one published version, and returns its offer hash.
func publish(t *testing.T, s *rig.Server, name, body string) (offer string) {
	t.Helper()
	s.Do("configs", "create", name, "-f", file(t, s, name+".yaml", body), "--publish")
	versions := new(amporav1.ListConfigVersionsResponse)
	s.Get(versions, "configs", "versions", name)
	if len(versions.GetVersions()) != 1 || versions.GetVersions()[0].GetState() != amporav1.VersionState_VERSION_STATE_PUBLISHED {
		t.Fatalf("after create --publish there are %v", versions.GetVersions())
	}
	if got := s.Do("configs", "cat", name); got != body {
		t.Fatalf("configs cat %s gives other bytes:\n%q\nwant\n%q", name, got, body)
	}
	return versions.GetVersions()[0].GetOfferHash()
}

func file(t *testing.T, s *rig.Server, name, text string) string {
	t.Helper()
	path := filepath.Join(s.Dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil { //nolint:gosec // a name of the test's own
		t.Fatal(err)
	}
	return path
}

// granted counts how often an agent was granted an offer.
func granted(s *rig.Server, agent, offer string) (times int) {
	for _, event := range s.Events(agent) {
		if event.GetKind() == "agent.config_granted" && event.GetAttributes()["offer_hash"] == offer {
			times++
		}
	}
	return times
}

// words are the agent's words on an offer, in order, as the events tell them.
func words(s *rig.Server, agent, offer string) (states []string) {
	for _, event := range s.Events(agent) {
		if event.GetKind() == "agent.config_status_changed" && event.GetAttributes()["offer_hash"] == offer {
			states = append(states, event.GetAttributes()["state"])
		}
	}
	return states
}
