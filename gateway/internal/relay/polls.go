// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// Bounds of what stands in the registers of polling agents.
const (
	leastPollLife = 10 * time.Minute
	pollTime      = 3 * time.Second
	pollBatch     = 512
	maxSentHash   = 64
)

// Polls is what gateways tell each other of agents that poll. It is a hint, which the
// bus may lose and nobody seals: what the control plane says of a session counts more.
type Polls struct {
	bus  bus.Registers
	told *Registration
	life time.Duration
}

// NewPolls makes polls whose registers outlast the idle time of a session by far.
func NewPolls(registers bus.Registers, told *Registration, idle time.Duration) *Polls {
	return &Polls{bus: registers, told: told, life: max(leastPollLife, 4*idle)}
}

// Found is what stands in the registers of one agent.
type Found struct {
	// Standing is nil if nobody knows.
	Standing *session.Standing
	// Letters are signed by nobody yet: see [Downlinks.Letters].
	Letters [][]byte
}

// kinds are those of the letters, in the order in which they are read.
var kinds = []string{
	relayv1.Downlink_KIND_CLOSE.String(), relayv1.Downlink_KIND_FULL_STATE.String(), relayv1.Downlink_KIND_CONFIG.String(),
	relayv1.Downlink_KIND_RENEW.String(), relayv1.Downlink_KIND_RESTART.String(),
}

// Read returns what stands there of an agent. It takes one round trip.
func (p *Polls) Read(ctx context.Context, of session.Key) (Found, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	type mail struct {
		letters [][]byte
		err     error
	}
	post := make(chan mail, 1)
	go func() {
		names := make([]string, len(kinds))
		for i, kind := range kinds {
			names[i] = uplink.MailRegister(of.Tenant, of.Agent, kind)
		}
		letters, err := p.bus.Get(ctx, bus.Mail, names...)
		post <- mail{letters, err}
	}()
	standings, err := p.standings(ctx, []session.Key{of})
	found := <-post
	switch {
	case err != nil:
		return Found{}, err
	case found.err != nil:
		return Found{}, fmt.Errorf("reading mail: %w", found.err)
	}
	return Found{Standing: standings[0], Letters: found.letters}, nil
}

// Standings returns how far agents have come, in their order; nil where nobody knows.
func (p *Polls) Standings(ctx context.Context, of []session.Key) ([]*session.Standing, error) {
	standings := make([]*session.Standing, 0, len(of))
	for batch := range slices.Chunk(of, pollBatch) {
		some, err := p.standings(ctx, batch)
		if err != nil {
			return nil, err
		}
		standings = append(standings, some...)
	}
	return standings, nil
}

func (p *Polls) standings(ctx context.Context, of []session.Key) ([]*session.Standing, error) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	names := make([]string, len(of))
	for i, key := range of {
		names[i] = uplink.Register(key.Tenant, key.Agent)
	}
	values, err := p.bus.Get(ctx, bus.Polls, names...)
	if err != nil {
		return nil, fmt.Errorf("reading polls: %w", err)
	}
	standings := make([]*session.Standing, len(of))
	for i, value := range values {
		standings[i] = p.decode(value)
	}
	return standings, nil
}

// Write tells the others how far the agent of a session has come.
func (p *Polls) Write(ctx context.Context, s *session.Session) error {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	value, err := p.encode(s.Standing())
	if err != nil {
		return err
	}
	err = p.bus.Set(ctx, bus.Polls, p.life, bus.Register{Name: uplink.Register(s.Key.Tenant, s.Key.Agent), Value: value})
	if err != nil {
		return fmt.Errorf("writing a poll: %w", err)
	}
	return nil
}

func (p *Polls) encode(s session.Standing) ([]byte, error) {
	poll := &relayv1.Poll{
		Epoch: s.Epoch, Sequence: s.Sequence, Doubtful: s.Doubtful, LastSeenAt: timestamppb.New(p.told.There(s.LastSeen)),
		Capabilities: s.Capabilities, Components: s.Components[:], SentHash: s.SentHash, SentGeneration: s.SentGeneration, Restarted: s.Restarted,
	}
	if !s.AskedAt.IsZero() {
		poll.AskedAt = timestamppb.New(p.told.There(s.AskedAt))
	}
	return proto.Marshal(poll)
}

// decode reads a register that anybody may have written; nil if it makes no sense.
func (p *Polls) decode(value []byte) *session.Standing {
	var poll relayv1.Poll
	if len(value) == 0 || proto.Unmarshal(value, &poll) != nil || poll.GetEpoch() == 0 || len(poll.GetSentHash()) > maxSentHash {
		return nil
	}
	s := &session.Standing{
		Epoch: poll.GetEpoch(), Sequence: poll.GetSequence(), Doubtful: poll.GetDoubtful(), LastSeen: p.here(poll.GetLastSeenAt()),
		AskedAt: p.here(poll.GetAskedAt()), Capabilities: poll.GetCapabilities(), SentGeneration: poll.GetSentGeneration(), Restarted: poll.GetRestarted(),
	}
	if len(poll.GetSentHash()) > 0 {
		s.SentHash = poll.GetSentHash()
	}
	if len(poll.GetComponents()) == sha256.Size {
		s.Components = [sha256.Size]byte(poll.GetComponents())
	}
	return s
}

// here reads a moment of the past: one that is still to come has come now.
func (p *Polls) here(at *timestamppb.Timestamp) time.Time {
	if !at.IsValid() {
		return time.Time{}
	}
	now := p.told.Now()
	if told := at.AsTime(); told.Before(now) {
		now = told
	}
	return p.told.Here(now)
}
