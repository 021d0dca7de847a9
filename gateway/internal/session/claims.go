// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"fmt"
	"time"

	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1/internalv1connect"
	"gitlab.com/ampora/ampora/shared/gather"
	"gitlab.com/ampora/ampora/shared/identity"
	"gitlab.com/ampora/ampora/shared/run"
)

// ContestWait is how long the holder of a session has to answer a ping before it is
// taken for dead.
const ContestWait = 5 * time.Second

// Claims takes sessions from the control plane for this gateway. Claims of a few
// milliseconds share a call, because a restarted gateway gets thousands at once.
type Claims struct {
	gateway  identity.GatewayID
	bootID   uint64
	registry *Registry
	batch    *gather.Gatherer[*internalv1.Claim, *internalv1.ClaimResult]
}

// NewClaims makes the claims of a gateway process.
func NewClaims(control internalv1connect.GatewayServiceClient, gateway identity.GatewayID, bootID uint64, registry *Registry) *Claims {
	call := func(ctx context.Context, claims []*internalv1.Claim) ([]*internalv1.ClaimResult, error) {
		response, err := control.ClaimSessions(ctx, &internalv1.ClaimSessionsRequest{GatewayId: string(gateway), BootId: bootID, Claims: claims})
		if err != nil {
			return nil, fmt.Errorf("claiming %d sessions: %w", len(claims), err)
		}
		return response.GetResults(), nil
	}
	bound := gather.Bound{Waiting: 8192, Size: 1000, Parallel: 4, Moment: 3 * time.Millisecond, Timeout: 10 * time.Second}
	return &Claims{gateway: gateway, bootID: bootID, registry: registry, batch: gather.New(bound, call)}
}

// Run makes the calls until the context ends.
func (c *Claims) Run(ctx context.Context) error { return c.batch.Run(ctx) }

// Refusal is a claim that the control plane turned down.
type Refusal struct {
	// Reason is one of the contract's (CERTIFICATE_REVOKED, UID_FOREIGN …).
	Reason string
}

// Error names the reason.
func (r *Refusal) Error() string { return "the session was refused: " + r.Reason }

// Claim takes one session over the link. If another session of the agent is open, its
// holder gets [ContestWait] to show that it lives; then the session is taken over, as
// a restart if it stayed silent, as a clone if it answered. The error is a [Refusal],
// or says that the control plane could not be asked.
func (c *Claims) Claim(ctx context.Context, claim *internalv1.Claim, link Link) (*internalv1.ClaimResult, error) {
	for range 2 {
		result, err := c.batch.Do(ctx, claim)
		if err != nil {
			return nil, err
		}
		switch result.GetOutcome() {
		case internalv1.ClaimOutcome_CLAIM_OUTCOME_CLAIMED:
			return result, nil
		case internalv1.ClaimOutcome_CLAIM_OUTCOME_HELD:
			if claim.Takeover, err = c.contest(ctx, claim, result, link); err != nil {
				return nil, err
			}
			claim.HolderEpoch = result.GetHolderEpoch()
		default:
			return nil, &Refusal{Reason: result.GetReason()}
		}
	}
	return nil, &Refusal{Reason: Outrun}
}

// Outrun is the reason of a claim that was too late: while it contested the session that was open, another one began.
const Outrun = "HELD"

// Again claims a session that is live here after the gateway's lease was lost. It
// contests nothing: if the agent has a session elsewhere by now, this one is over.
func (c *Claims) Again(ctx context.Context, claim *internalv1.Claim) (*internalv1.ClaimResult, error) {
	result, err := c.batch.Do(ctx, claim)
	if err == nil && result.GetOutcome() == internalv1.ClaimOutcome_CLAIM_OUTCOME_HELD && result.GetHolderGatewayId() == string(c.gateway) {
		claim.Takeover, claim.HolderEpoch = internalv1.Takeover_TAKEOVER_RESTART, result.GetHolderEpoch()
		result, err = c.batch.Do(ctx, claim)
	}
	switch {
	case err != nil:
		return nil, err
	case result.GetOutcome() != internalv1.ClaimOutcome_CLAIM_OUTCOME_CLAIMED:
		return nil, &Refusal{Reason: result.GetReason()}
	}
	return result, nil
}

// contest finds out whether the holder of a session lives.
func (c *Claims) contest(ctx context.Context, claim *internalv1.Claim, held *internalv1.ClaimResult, link Link) (internalv1.Takeover, error) {
	if held.GetHolderGatewayId() != string(c.gateway) {
		// Control has asked that gateway to ping, and compares what it has heard since.
		claim.HolderMark = held.GetHolderMark()
		return internalv1.Takeover_TAKEOVER_RESTART, run.Sleep(ctx, ContestWait)
	}
	agent := held.GetAgentId()
	if agent == "" {
		agent = claim.GetAgentId()
	}
	holder := c.registry.Get(Key{identity.TenantID(claim.GetTenant()), identity.AgentID(agent)})
	switch {
	case holder == nil:
		return internalv1.Takeover_TAKEOVER_RESTART, nil // it has ended here; control does not know yet
	case holder.Link == link && holder.UID == identity.InstanceUID(claim.GetInstanceUid()):
		return internalv1.Takeover_TAKEOVER_RESTART, nil // it was claimed, and the answer was lost
	case holder.Link == link:
		return 0, &Refusal{Reason: "CHILDREN_NOT_ALLOWED"} // a second uid on the connection of the first
	}
	lives, err := answers(ctx, holder)
	if lives {
		return internalv1.Takeover_TAKEOVER_CLONE, err
	}
	return internalv1.Takeover_TAKEOVER_RESTART, err
}

// answers pings a session and says whether anything came from it within [ContestWait].
func answers(ctx context.Context, s *Session) (bool, error) {
	const steps = 20
	before := s.LastSeen()
	s.Link.Ping()
	for range steps {
		if err := run.Sleep(ctx, ContestWait/steps); err != nil {
			return false, err
		}
		if s.LastSeen().After(before) {
			return true, nil
		}
	}
	return false, nil
}
