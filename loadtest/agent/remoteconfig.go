// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"time"

	"github.com/open-telemetry/opamp-go/client"
	"github.com/open-telemetry/opamp-go/protobufs"
)

// Respond decides what becomes of an offered configuration. It is called once for each
// offer that is taken up, one after the other.
type Respond func(Offer) Verdict

// Verdict is how an attempt ends.
type Verdict struct {
	// After is how long the attempt takes; APPLYING is reported before.
	After time.Duration
	// Failure makes the attempt fail, with these words. The agent goes on with what it ran.
	Failure string
	// RollBack makes the agent go back to what it ran by itself, and report that as
	// applied under its former hash, as newer supervisors do.
	RollBack bool
}

// Apply applies everything at once.
func Apply(Offer) Verdict { return Verdict{} }

// remember notes an offer and leaves it to applyAll, which takes up the newest alone.
func (a *Agent) remember(config *protobufs.AgentRemoteConfig) {
	offer := offerOf(config)
	a.log.Info("offered a configuration", "hash", offer.Hash, "bytes", len(offer.Body))
	a.state.set(func(s *State) { s.Offers = append(s.Offers, offer) })
	for {
		select {
		case a.next <- config:
			return
		default:
		}
		select {
		case <-a.next: // superseded
		default:
		}
	}
}

func (a *Agent) applyAll(ctx context.Context, opamp client.OpAMPClient) {
	for {
		select {
		case <-ctx.Done():
			return
		case config := <-a.next:
			a.apply(ctx, opamp, config)
		}
	}
}

// apply tells the story of one configuration: APPLYING, then how it ended.
func (a *Agent) apply(ctx context.Context, opamp client.OpAMPClient, config *protobufs.AgentRemoteConfig) {
	former := a.state.get()
	a.report(opamp, config.GetConfigHash(), protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING, "")
	verdict := a.config.Respond(offerOf(config))
	if verdict.After > 0 {
		select {
		case <-ctx.Done():
			return
		case <-time.After(verdict.After):
		}
	}
	switch {
	case verdict.Failure != "":
		a.report(opamp, config.GetConfigHash(), protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED, verdict.Failure)
		return
	case verdict.RollBack:
		a.report(opamp, former.status.GetLastRemoteConfigHash(), protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED, "")
		return
	}
	a.state.set(func(s *State) { s.Running, s.running = offerOf(config).Body, config.GetConfig() })
	a.report(opamp, config.GetConfigHash(), protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED, "")
	if err := opamp.UpdateEffectiveConfig(ctx); err != nil {
		a.log.WarnContext(ctx, "effective configuration not reported", "error", err)
	}
}

func (a *Agent) report(opamp client.OpAMPClient, hash []byte, status protobufs.RemoteConfigStatuses, words string) {
	message := &protobufs.RemoteConfigStatus{LastRemoteConfigHash: hash, Status: status, ErrorMessage: words}
	a.log.Info("configuration", "status", status.String(), "error", words)
	a.state.set(func(s *State) { s.status = message })
	if err := opamp.SetRemoteConfigStatus(message); err != nil {
		a.log.Warn("status not reported", "error", err)
	}
}
