// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"regexp"
	"strconv"
	"strings"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// Things are named as people know them: by id, or by a name, which this file turns into the id.

var (
	wholeID = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	// At least six digits: with fewer, a prefix of a UUIDv7 tells the decade and nothing else.
	idPrefix = regexp.MustCompile(`^[0-9a-f]{6}[0-9a-f-]{0,29}$`)
)

// agentID finds an agent by its id, a display name or host name that only it has, or a prefix of its id that only it
// has, in this order.
func (a *api) agentID(ctx context.Context, ref string) (string, error) {
	ref = strings.TrimPrefix(ref, "agent/")
	if wholeID.MatchString(ref) {
		return ref, nil
	}
	matches, err := a.agentsNamed(ctx, ref)
	if err == nil && len(matches) == 0 && idPrefix.MatchString(ref) {
		matches, err = a.agentsWithPrefix(ctx, ref)
	}
	switch {
	case err != nil:
		return "", err
	case len(matches) == 0:
		return "", fail(ExitNotFound, "list them with: amporactl agents list", "there is no agent %q", ref)
	case len(matches) > 1:
		return "", fail(ExitUsage, "name it by its id: "+oneOf(matches), "several agents are meant by %q", ref)
	default:
		return matches[0].GetId(), nil
	}
}

// agentOrNone is agentID, but "" stays "".
func (a *api) agentOrNone(ctx context.Context, ref string) (string, error) {
	if ref == "" {
		return "", nil
	}
	return a.agentID(ctx, ref)
}

func (a *api) agentIDs(ctx context.Context, refs []string) ([]string, error) {
	ids := make([]string, 0, len(refs))
	seen := make(map[string]bool, len(refs))
	for _, ref := range refs {
		id, err := a.agentID(ctx, ref)
		if err != nil {
			return nil, err
		}
		if !seen[id] {
			ids = append(ids, id)
		}
		seen[id] = true
	}
	return ids, nil
}

// agentsNamed asks for what starts with the name, and keeps what is it. A display name is service@host; the host is
// the more selective half.
func (a *api) agentsNamed(ctx context.Context, name string) ([]*amporav1.Agent, error) {
	prefix := name
	if _, host, found := strings.Cut(name, "@"); found && host != "" {
		prefix = host
	}
	var matches []*amporav1.Agent
	err := eachPage(ctx, 0, a.agentPages(&amporav1.AgentFilter{NamePrefix: prefix}), func(agents []*amporav1.Agent) bool {
		for _, agent := range agents {
			if agent.GetDisplayName() == name || agent.GetHostName() == name {
				matches = append(matches, agent)
			}
		}
		return len(matches) < 2
	})
	return matches, err
}

// agentsWithPrefix relies on the order of the list, which is by id: it stops behind the prefix.
func (a *api) agentsWithPrefix(ctx context.Context, prefix string) ([]*amporav1.Agent, error) {
	var matches []*amporav1.Agent
	err := eachPage(ctx, 0, a.agentPages(&amporav1.AgentFilter{Text: prefix}), func(agents []*amporav1.Agent) bool {
		for _, agent := range agents {
			switch {
			case strings.HasPrefix(agent.GetId(), prefix):
				matches = append(matches, agent)
			case agent.GetId() > prefix:
				return false
			}
		}
		return len(matches) < 2
	})
	return matches, err
}

func (a *api) agentPages(filter *amporav1.AgentFilter) page[*amporav1.Agent] {
	return func(ctx context.Context, size int32, token string) ([]*amporav1.Agent, string, error) {
		answer, err := a.agents.ListAgents(ctx,
			&amporav1.ListAgentsRequest{PageSize: size, PageToken: token, Filter: filter})
		return answer.GetAgents(), answer.GetNextPageToken(), err
	}
}

func oneOf(agents []*amporav1.Agent) string {
	const shown = 5
	var ids []string
	for _, agent := range agents[:min(shown, len(agents))] {
		ids = append(ids, escape(agent.GetId()))
	}
	if len(agents) > shown {
		ids = append(ids, "…")
	}
	return strings.Join(ids, ", ")
}

// groupID finds a group by its id or name; "" stays "".
func (a *api) groupID(ctx context.Context, ref string) (string, error) {
	if ref == "" || wholeID.MatchString(ref) {
		return ref, nil
	}
	answer, err := a.groups.GetGroup(ctx, &amporav1.GetGroupRequest{Group: ref})
	return answer.GetGroup().GetId(), err
}

// config finds a configuration by its id or name.
func (a *api) config(ctx context.Context, ref string) (*amporav1.Config, error) {
	answer, err := a.configs.GetConfig(ctx, &amporav1.GetConfigRequest{Config: ref})
	return answer.GetConfig(), err
}

// versionRef is NAME or NAME@VERSION; version 0 means that none was named.
type versionRef struct {
	config  string
	version int32
}

func parseVersionRef(text string) (versionRef, error) {
	name, digits, found := strings.Cut(text, "@")
	if name == "" {
		return versionRef{}, usage("a configuration is named NAME or NAME@VERSION, got %q", text)
	}
	if !found {
		return versionRef{config: name}, nil
	}
	version, err := strconv.ParseInt(strings.TrimPrefix(digits, "v"), 10, 32)
	if err != nil || version < 1 {
		return versionRef{}, usage("a version is a number from 1 on, as in NAME@3, got %q", text)
	}
	return versionRef{config: name, version: int32(version)}, nil
}
