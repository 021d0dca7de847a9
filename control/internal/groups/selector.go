// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package groups

import (
	"context"

	"gitlab.com/ampora/ampora/control/internal/expression"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Names of what selectors read, as documented in the guide of groups. What stands below verified is known without asking
// the agent; what stands below claimed is its own word.
const (
	claimed = "agent.claimed"

	verifiedID         = "agent.verified.id"
	verifiedEnrolledAt = "agent.verified.enrolled_at"
	verifiedMethod     = "agent.verified.method"
	verifiedParent     = "agent.verified.parent"
	verifiedTags       = "agent.verified.tags"

	claimedLabels         = "agent.claimed.labels"
	claimedType           = "agent.claimed.type"
	claimedVersion        = "agent.claimed.version"
	claimedServiceName    = "agent.claimed.service_name"
	claimedServiceVersion = "agent.claimed.service_version"
	claimedHostName       = "agent.claimed.host_name"
	claimedCapabilities   = "agent.claimed.capabilities"
)

// maxCost bounds one evaluation to well under a millisecond: a loop over all labels is allowed, one in another is not.
const maxCost = 20_000

var environment = expression.Must(expression.Declared{
	Variables: map[string]expression.Type{
		verifiedID: expression.Text, verifiedEnrolledAt: expression.Time, verifiedMethod: expression.Text, verifiedParent: expression.Text,
		verifiedTags:  expression.Map(expression.Text),
		claimedLabels: expression.Map(expression.Text), claimedType: expression.Text, claimedVersion: expression.Text,
		claimedServiceName: expression.Text, claimedServiceVersion: expression.Text, claimedHostName: expression.Text,
		claimedCapabilities: expression.List(expression.Text),
	},
	MaxItems: fleet.MaxTags, MaxText: fleet.MaxTagValue, CostLimit: maxCost,
})

// Selector is a compiled selector.
type Selector struct{ program *expression.Program }

// Compile checks a selector. Its errors are those of package expression.
func Compile(text string) (Selector, error) {
	program, err := environment.Compile(text)
	return Selector{program}, err //nolint:wrapcheck // a fault that says what it is about
}

// ReadsClaims says whether what an agent claims decides.
func (s Selector) ReadsClaims() bool { return s.program.Reads(claimed) }

func (s Selector) readsTags() bool   { return s.program.Reads(verifiedTags) }
func (s Selector) readsLabels() bool { return s.program.Reads(claimedLabels) }

// Matches says whether the selector chooses the agent. Who lacks what it asks for is not chosen; any other failure is an
// error.
func (s Selector) Matches(ctx context.Context, c fleet.Candidate) (bool, error) {
	yes, err := s.program.Evaluate(ctx, func(name string) any { return value(c, name) })
	if fault.Is(err, expression.ReasonKeyMissing) {
		return false, nil
	}
	return yes, err //nolint:wrapcheck // a fault that says what it is about
}

func value(c fleet.Candidate, name string) any {
	switch name {
	case verifiedID:
		return string(c.Agent)
	case verifiedEnrolledAt:
		return c.EnrolledAt
	case verifiedMethod:
		return string(c.Method)
	case verifiedParent:
		return string(c.Parent)
	case verifiedTags:
		return map[string]string(c.Tags)
	case claimedLabels:
		return c.Labels
	case claimedType, claimedServiceName:
		return c.ServiceName
	case claimedVersion, claimedServiceVersion:
		return c.ServiceVersion
	case claimedHostName:
		return c.HostName
	case claimedCapabilities:
		return c.Capabilities.Names()
	default:
		return nil
	}
}
