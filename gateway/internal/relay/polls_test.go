// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
)

// Two gateways whose clocks differ understand each other.
func TestStandingsTravel(t *testing.T) {
	registers := inproc.New(inproc.Options{})
	now := time.Now()
	told := func(ahead time.Duration) *Registration {
		r := NewRegistration(func() time.Time { return now.Add(ahead) })
		r.Set(now.Add(ahead), now.Add(ahead), now)
		return r
	}
	here, there := NewPolls(registers, told(0), time.Second), NewPolls(registers, told(time.Hour), time.Second)
	key := session.Key{Tenant: "acme", Agent: "a"}
	said := session.Standing{
		Epoch: 7, Sequence: 9, Doubtful: true, AskedAt: now.Add(-time.Minute), LastSeen: now.Add(-time.Second),
		Capabilities: 5, Components: [32]byte{1, 2}, SentHash: []byte("offer"), SentGeneration: 3,
	}
	s := session.New(session.Claimed{Key: key, Epoch: 7}, nil, now)
	s.Join(&said)
	s.Touch(said.LastSeen)
	if err := here.Write(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	found, err := there.Read(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	want := said
	want.AskedAt, want.LastSeen = said.AskedAt.Add(time.Hour), said.LastSeen.Add(time.Hour)
	got := *found.Standing
	if !got.AskedAt.Equal(want.AskedAt) || !got.LastSeen.Equal(want.LastSeen) {
		t.Errorf("it was asked at %v and heard at %v, want %v and %v", got.AskedAt, got.LastSeen, want.AskedAt, want.LastSeen)
	}
	got.AskedAt, got.LastSeen = want.AskedAt, want.LastSeen
	if !reflect.DeepEqual(got, want) {
		t.Errorf("read %+v, want %+v", got, want)
	}
	many, err := there.Standings(t.Context(), []session.Key{{Tenant: "acme", Agent: "b"}, key})
	if err != nil || len(many) != 2 || many[0] != nil || many[1].Epoch != 7 {
		t.Errorf("read %v, %v", many, err)
	}
}

// Whatever stands in a register: it is taken for nothing, or for something of the past
// that can be told on.
func FuzzStanding(f *testing.F) {
	now := time.Now()
	polls := NewPolls(inproc.New(inproc.Options{}), NewRegistration(func() time.Time { return now }), time.Second)
	add := func(poll *relayv1.Poll) {
		value, err := proto.Marshal(poll)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(value)
	}
	add(&relayv1.Poll{Epoch: 1, Sequence: 2, LastSeenAt: timestamppb.New(now), Components: make([]byte, 32), SentHash: []byte("x"), SentGeneration: 1})
	add(&relayv1.Poll{Epoch: 1, AskedAt: timestamppb.New(now.Add(time.Hour)), Components: make([]byte, 31)})
	add(&relayv1.Poll{Epoch: 1, LastSeenAt: &timestamppb.Timestamp{Seconds: 1 << 62, Nanos: -1}})
	add(&relayv1.Poll{Epoch: 1, SentHash: make([]byte, 65)})
	f.Add([]byte{})
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, value []byte) {
		standing := polls.decode(value)
		if standing == nil {
			return
		}
		if standing.Epoch == 0 || len(standing.SentHash) > maxSentHash || standing.AskedAt.After(now) || standing.LastSeen.After(now) {
			t.Fatalf("%x reads as %+v", value, standing)
		}
		again, err := polls.encode(*standing)
		if err != nil || !reflect.DeepEqual(polls.decode(again), standing) {
			t.Fatalf("%+v is told on as %+v, %v", standing, polls.decode(again), err)
		}
	})
}

// Whatever lies in an agent's mail, nothing comes of what is not signed for it.
func FuzzLetter(f *testing.F) {
	key := session.Key{Tenant: "acme", Agent: "a"}
	letter := &relayv1.Downlink{
		Tenant: "acme", Kind: relayv1.Downlink_KIND_CONFIG, NotAfter: timestamppb.New(time.Now().Add(time.Hour)), Hash: []byte("offer"),
		Targets: []*relayv1.Target{{AgentId: "a", Epoch: 1, Generation: 1}},
	}
	valid := signed(f, letter)
	letter.GatewayId = string(origin.Gateway)
	others := [][]byte{signed(f, letter), valid[:len(valid)-1], {}, {0xff}, append([]byte{0x0a, 0x00}, valid...)}
	f.Add(valid)
	for _, other := range others {
		f.Add(other)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		registry := session.NewRegistry(func(*session.Session, session.EndReason) {})
		publisher, err := NewPublisher(origin, inproc.New(inproc.Options{}), registered(), slog.New(slog.DiscardHandler), noop.Meter{})
		if err != nil {
			t.Fatal(err)
		}
		s := session.New(session.Claimed{Key: key, Epoch: 1}, silent{}, time.Now())
		registry.Start(s)
		newDownlinks(t, registry, publisher).Letters(t.Context(), s, [][]byte{payload}, false)
		var envelope, original relayv1.SignedDownlink
		if err := proto.Unmarshal(valid, &original); err != nil {
			t.Fatal(err)
		}
		genuine := proto.Unmarshal(payload, &envelope) == nil && bytes.Equal(envelope.GetDownlink(), original.GetDownlink()) &&
			bytes.Equal(envelope.GetSignature(), original.GetSignature()) && envelope.GetKeyId() == "k1"
		if s.HasMail() != genuine {
			t.Fatalf("%x put mail into the box: %v", payload, s.HasMail())
		}
	})
}

// silent is a link to nobody.
type silent struct{}

func (silent) Wake(*session.Session)                     {}
func (silent) Ping()                                     {}
func (silent) Renew(*session.Session, int64)             {}
func (silent) Close(*session.Session, session.EndReason) {}

func TestPollsThatCannotBeRead(t *testing.T) {
	registers := inproc.New(inproc.Options{})
	polls := NewPolls(registers, registered(), time.Second)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := polls.Read(ctx, session.Key{Tenant: "acme", Agent: "a"}); !errors.Is(err, context.Canceled) {
		t.Errorf("read: %v", err)
	}
}
