// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"maps"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// unavailable is the exit code of amporactl when nobody answers.
const unavailable = 6

// CLI runs amporactl as the administrator of the installation.
func (s *Server) CLI(args ...string) Result {
	s.t.Helper()
	return s.CLIWith(nil, "", args...)
}

// CLIWith runs amporactl with further variables and a standard input.
func (s *Server) CLIWith(env map[string]string, stdin string, args ...string) Result {
	s.t.Helper()
	all := maps.Clone(s.cliEnv)
	maps.Copy(all, env)
	return Run(s.t, Command{Name: "amporactl", Path: Ours(s.t, "amporactl"), Args: args, Dir: s.Dir, Env: all}, stdin)
}

// Tool runs another program of ours as the administrator of the installation. It may take
// as long as an agent that is told to come back later.
func (s *Server) Tool(name string, args ...string) Result {
	s.t.Helper()
	return Run(s.t, Command{Name: name, Path: Ours(s.t, name), Args: args, Dir: s.Dir, Env: s.cliEnv, Limit: 5 * time.Minute}, "")
}

// Begin starts a program of ours as the administrator of the installation, which goes on until it is interrupted.
func (s *Server) Begin(name, program string, args ...string) *Process {
	s.t.Helper()
	return Start(s.t, Command{Name: name, Path: Ours(s.t, program), Args: args, Dir: s.Dir, Env: s.cliEnv, Stop: syscall.SIGINT})
}

// Do runs amporactl, expects it to succeed, and returns its standard output.
func (s *Server) Do(args ...string) string {
	s.t.Helper()
	return s.succeeded(s.CLI(args...), args...)
}

func (s *Server) succeeded(result Result, args ...string) (stdout string) {
	s.t.Helper()
	if result.Code != 0 {
		s.t.Fatalf("amporactl %s: exit code %d\n%s%s", strings.Join(args, " "), result.Code, result.Stdout, result.Stderr)
	}
	return result.Stdout
}

// Get runs amporactl with -o json, expects it to succeed, and reads what it prints.
func (s *Server) Get(into proto.Message, args ...string) {
	s.t.Helper()
	s.parse(s.Do(append(args, "-o", "json")...), into)
}

// Try is Get while somebody may be gone: it says whether there was an answer.
func (s *Server) Try(into proto.Message, args ...string) bool {
	s.t.Helper()
	got := s.CLI(append(args, "-o", "json")...)
	if got.Code == 0 {
		s.parse(got.Stdout, into)
	}
	return got.Code == 0
}

func (s *Server) parse(text string, into proto.Message) {
	s.t.Helper()
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(text), into); err != nil {
		s.t.Fatalf("%T: %v in\n%s", into, err, text)
	}
}

// Issue issues a bootstrap token.
func (s *Server) Issue(args ...string) *amporav1.IssueBootstrapTokenResponse {
	s.t.Helper()
	issued := new(amporav1.IssueBootstrapTokenResponse)
	s.Get(issued, append([]string{"tokens", "issue"}, args...)...)
	s.secrets = append(s.secrets, issued.GetSecret())
	return issued
}

// IssueFile issues a bootstrap token into a file, as a user does, and returns its path
// with the token's id.
func (s *Server) IssueFile(name string, args ...string) (path, id string) {
	s.t.Helper()
	issued := s.Issue(args...)
	path = filepath.Join(s.Dir, name)
	write(s.t, path, []byte(issued.GetSecret()+"\n"))
	return path, issued.GetToken().GetId()
}

// Token is the present state of a bootstrap token.
func (s *Server) Token(id string) *amporav1.BootstrapToken {
	s.t.Helper()
	list := new(amporav1.ListBootstrapTokensResponse)
	s.Get(list, "tokens", "list")
	for _, token := range list.GetTokens() {
		if token.GetId() == id {
			return token
		}
	}
	s.t.Fatalf("no token %s", id)
	return nil
}

// AwaitAgent waits until a token was redeemed and returns the agent's id.
func (s *Server) AwaitAgent(token string) (agent string) {
	s.t.Helper()
	Await(s.t, "the token to be redeemed", func() string {
		agent = s.Token(token).GetAgentId()
		if agent == "" {
			return "it is not"
		}
		return ""
	})
	return agent
}

// Agent is what is known of an agent.
func (s *Server) Agent(id string) *amporav1.Agent {
	s.t.Helper()
	agent := new(amporav1.Agent)
	s.Get(agent, "agents", "get", id)
	return agent
}

// AwaitAgentTo waits until an agent is as the check wants it. That nobody answers for a while, as when the process that
// was asked has just been killed, is part of waiting.
func (s *Server) AwaitAgentTo(id, what string, check func(*amporav1.Agent) (missing string)) (agent *amporav1.Agent) {
	s.t.Helper()
	Await(s.t, "agent "+id+" to "+what, func() string {
		got := s.CLI("agents", "get", id, "-o", "json")
		if got.Code == unavailable {
			return got.Stderr
		}
		agent = new(amporav1.Agent)
		s.parse(s.succeeded(got, "agents", "get", id), agent)
		return check(agent)
	})
	return agent
}

// AwaitOnline waits until an agent is connected with its certificate and has told all
// that agents tell first.
func (s *Server) AwaitOnline(id string) *amporav1.Agent {
	s.t.Helper()
	return s.AwaitAgentTo(id, "be online", func(agent *amporav1.Agent) string {
		switch {
		case agent.GetPresence() != amporav1.Presence_PRESENCE_ONLINE:
			return "presence is " + agent.GetPresence().String()
		case agent.GetDescription() == nil:
			return "no description yet"
		case agent.GetCredential().GetSerial() == "":
			return "no credential yet"
		}
		return ""
	})
}

// AwaitDelivery waits until the delivery of a configuration to an agent is in a state.
func (s *Server) AwaitDelivery(id string, want amporav1.DeliveryState) *amporav1.Agent {
	s.t.Helper()
	return s.AwaitAgentTo(id, "be "+want.String(), func(agent *amporav1.Agent) string {
		if delivery := agent.GetConfigDelivery(); delivery.GetState() != want {
			return "it is " + delivery.GetState().String() + " " + delivery.GetMessage()
		}
		return ""
	})
}

// Events are the events of an agent, oldest first.
func (s *Server) Events(agent string) []*amporav1.Event {
	s.t.Helper()
	list := new(amporav1.ListEventsResponse)
	s.Get(list, "events", "list", "--agent", agent, "--limit", "0")
	events := list.GetEvents()
	for i, j := 0, len(events)-1; i < j; i, j = i+1, j-1 {
		events[i], events[j] = events[j], events[i]
	}
	return events
}

// Follow starts a command of amporactl that goes on until it is interrupted.
func (s *Server) Follow(name string, args ...string) *Process {
	s.t.Helper()
	return s.Begin(name, "amporactl", args...)
}
