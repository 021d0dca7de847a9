// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"maps"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/expression"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

func candidate() fleet.Candidate {
	return fleet.Candidate{
		Agent: "01980000-0000-7000-8000-000000000001", EnrolledAt: time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC), Method: fleet.EnrolledByEST,
		Tags: fleet.Tags{"site": "berlin"}, Labels: map[string]string{"os.type": "linux", "region": "eu-1"},
		ServiceName: "otelcol", ServiceVersion: "0.149.0", HostName: "web-1", Capabilities: 3,
	}
}

func TestSelectors(t *testing.T) {
	for text, want := range map[string]struct{ yes, claims bool }{
		`agent.verified.id.startsWith("01980000-")`:                                 {true, false},
		`agent.verified.enrolled_at < timestamp("2026-06-01T00:00:00Z")`:            {true, false},
		`agent.verified.method == "est" && agent.verified.parent == ""`:             {true, false},
		`agent.verified.tags["site"] in ["berlin", "potsdam"]`:                      {true, false},
		`agent.verified.tags.site == "paris"`:                                       {false, false},
		`agent.verified.tags["rack"] == "7"`:                                        {false, false}, // who has none is not chosen
		`agent.verified.tags["rack"] != "7"`:                                        {false, false}, // nor by the contrary
		`!("rack" in agent.verified.tags) || agent.verified.tags["rack"] != "7"`:    {true, false},
		`agent.claimed.labels["os.type"] == "linux"`:                                {true, true},
		`agent.claimed.labels.exists(k, k.startsWith("os."))`:                       {true, true},
		`agent.claimed.labels.exists(k, agent.claimed.labels[k].startsWith("eu-"))`: {true, true},
		`agent.claimed.type == agent.claimed.service_name`:                          {true, true},
		`agent.claimed.version == agent.claimed.service_version`:                    {true, true},
		`agent.claimed.host_name.matches("^web-[0-9]+$")`:                           {true, true},
		`"AcceptsRemoteConfig" in agent.claimed.capabilities`:                       {true, true},
		`"ReportsHealth" in agent.claimed.capabilities`:                             {false, true},
		`true`: {true, false},
	} {
		s, err := Compile(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if yes, err := s.Matches(t.Context(), candidate()); err != nil || yes != want.yes || s.ReadsClaims() != want.claims {
			t.Errorf("%s: %v, %v, reads claims: %v; want %+v", text, yes, err, s.ReadsClaims(), want)
		}
	}
}

func TestSelectorsAreRefused(t *testing.T) {
	for text, reason := range map[string]string{
		``:                           expression.ReasonInvalid,
		`agent.claimed.nothing`:      expression.ReasonInvalid,
		`agent.claimed == 1`:         expression.ReasonInvalid,
		`agent.verified.id`:          expression.ReasonInvalid,
		`agent.verified.tags == 1`:   expression.ReasonInvalid,
		`agent.verified.id == "a" &`: expression.ReasonInvalid,
		`agent.claimed.labels.all(a, agent.claimed.labels.all(b, a.contains(b)))`: expression.ReasonTooCostly,
	} {
		if _, err := Compile(text); !fault.Is(err, reason) {
			t.Errorf("%s: %v, want %s", text, err, reason)
		}
	}
}

// TestEveryVariableHasAValue of its declared type, for an agent of which nothing is known.
func TestEveryVariableHasAValue(t *testing.T) {
	for name, test := range map[string]string{
		verifiedID: `== ""`, verifiedEnrolledAt: `< timestamp("2000-01-01T00:00:00Z")`, verifiedMethod: `== ""`, verifiedParent: `== ""`,
		verifiedTags: `.size() == 0`, claimedLabels: `.size() == 0`, claimedType: `== ""`, claimedVersion: `== ""`, claimedServiceName: `== ""`,
		claimedServiceVersion: `== ""`, claimedHostName: `== ""`, claimedCapabilities: `.size() == 0`,
	} {
		s, err := Compile(name + test)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if yes, err := s.Matches(t.Context(), fleet.Candidate{}); err != nil || !yes {
			t.Errorf("%s%s: %v, %v", name, test, yes, err)
		}
	}
}

// TestAnAgentIsNotChanged by whoever looks at it.
func TestAnAgentIsNotChanged(t *testing.T) {
	c := candidate()
	s, err := Compile(`agent.claimed.labels["region"] == "eu-1" && agent.verified.tags["site"] == "berlin"`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Matches(t.Context(), c); err != nil || !maps.Equal(c.Labels, candidate().Labels) || !maps.Equal(c.Tags, candidate().Tags) {
		t.Errorf("%+v, %v", c, err)
	}
}
