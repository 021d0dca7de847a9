// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
)

// tap keeps what passes through Redis, as somebody does who may do anything there.
type tap struct {
	redis *redis.Client
	mu    sync.Mutex
	heard map[string][]redis.XMessage // by stream
	stop  func()
}

// listen begins with what comes from now on.
func listen(t *testing.T, r *rig.Redis, gateways []*rig.Part) *tap {
	t.Helper()
	streams, latest := []string{}, []string{}
	for partition := range 64 {
		streams = append(streams, fmt.Sprintf("ampora:up:%d", partition))
	}
	for _, gateway := range gateways {
		streams = append(streams, "ampora:down:"+gateway.Name)
	}
	for range streams {
		latest = append(latest, "0-0")
	}
	ctx, cancel := context.WithCancel(t.Context())
	p := &tap{redis: r.Client(), heard: map[string][]redis.XMessage{}}
	var listening sync.WaitGroup
	listening.Go(func() {
		for ctx.Err() == nil {
			read, err := p.redis.XRead(ctx, &redis.XReadArgs{Streams: append(streams[:len(streams):len(streams)], latest...), Block: time.Second}).Result()
			if err != nil {
				continue // nothing came
			}
			p.mu.Lock()
			for _, stream := range read {
				p.heard[stream.Stream] = append(p.heard[stream.Stream], stream.Messages...)
				for i, name := range streams {
					if name == stream.Stream {
						latest[i] = stream.Messages[len(stream.Messages)-1].ID
					}
				}
			}
			p.mu.Unlock()
		}
	})
	p.stop = func() { cancel(); listening.Wait() }
	t.Cleanup(p.stop)
	return p
}

// messages are those of streams whose names begin so. Anchors carry none.
func (p *tap) messages(prefix string) (all []taken) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for stream, messages := range p.heard {
		for _, m := range messages {
			if payload, ok := m.Values["p"].(string); ok && strings.HasPrefix(stream, prefix) {
				all = append(all, taken{stream, m.Values, payload})
			}
		}
	}
	return all
}

// taken is a message as it was in a stream.
type taken struct {
	stream  string
	values  map[string]any
	payload string
}

// put appends a message with another payload, in the form that readers take for theirs.
func (p *tap) put(t *testing.T, stream string, like taken, payload string) {
	t.Helper()
	values := map[string]any{}
	for name, value := range like.values {
		values[name] = value
	}
	values["p"] = payload
	if err := p.redis.XAdd(t.Context(), &redis.XAddArgs{Stream: stream, ID: "1-*", Values: values}).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestBusIsHostile: somebody who may do anything in Redis repeats, alters, misdirects and invents messages in both
// directions and overwrites registers. Nothing of it has an effect but to be counted, and the honest goes on.
func TestBusIsHostile(t *testing.T) {
	t.Parallel()
	s := rig.NewServer(t, rig.SplitRedis).Start()
	ear := listen(t, s.Redis, s.Gateways())
	victim, id := run(t, s, "victim", agent.Apply)
	_, bystander := run(t, s, "bystander", agent.Apply)
	for _, config := range []string{"first", "second"} {
		publish(t, s, config, newPipeline(t, config).yaml())
		for _, to := range []string{id, bystander} {
			s.Do("configs", "assign", config, "--agent", to)
			awaitApplied(s, to, config)
		}
	}
	victim.SetHealth("honest")
	s.AwaitAgentTo(id, "tell its health", func(a *amporav1.Agent) string {
		return unless(a.GetHealth().GetStatus() == "honest", a.GetHealth().String())
	})
	before, other := s.Agent(id), s.Agent(bystander)
	ear.stop()
	ups, downs := ear.messages("ampora:up:"), ear.messages("ampora:down:")
	if len(ups) < 8 || len(downs) < 4 {
		t.Fatalf("%d uplinks and %d downlinks were heard", len(ups), len(downs))
	}

	forged := hurtUplinks(t, ear, ups)
	refused := hurtDownlinks(t, s, ear, downs)
	for _, key := range s.Redis.Client().Keys(t.Context(), "ampora:marks:*").Val() {
		s.Redis.Client().SetArgs(t.Context(), key, "not a mark", redis.SetArgs{KeepTTL: true})
	}
	rig.Await(t, "all of it to be counted", func() string {
		f := s.Metric("ampora_control_uplinks_total", `outcome="forged"`)
		r := s.Metric("ampora_gateway_downlinks_refused_total")
		return unless(int(f) >= forged && int(r) >= refused, fmt.Sprintf("%v of %d forged uplinks, %v of %d downlinks", f, forged, r, refused))
	})
	for _, was := range []*amporav1.Agent{before, other} {
		now := s.Agent(was.GetId())
		if now.GetHealth().GetStatus() != was.GetHealth().GetStatus() || now.GetSession().GetEpoch() != was.GetSession().GetEpoch() ||
			now.GetConfigDelivery().GetConfigName() != "second" || now.GetPresence() != amporav1.Presence_PRESENCE_ONLINE ||
			!proto.Equal(now.GetDescription(), was.GetDescription()) {
			t.Errorf("the agent was\n%v\nand is\n%v", was, now)
		}
	}

	offer := publish(t, s, "third", newPipeline(t, "third").yaml())
	s.Do("configs", "assign", "third", "--agent", id)
	awaitApplied(s, id, "third")
	victim.SetHealth("still honest")
	s.AwaitAgentTo(id, "be heard", func(a *amporav1.Agent) string {
		return unless(a.GetHealth().GetStatus() == "still honest", a.GetHealth().String())
	})
	if n := granted(s, id, offer); n != 1 {
		t.Errorf("granted %d times", n)
	}
}

// hurtUplinks repeats each message, alters it, names another agent, epoch and tenant, and returns how many of those bear a
// seal that is not theirs.
func hurtUplinks(t *testing.T, ear *tap, ups []taken) (forged int) {
	t.Helper()
	for _, m := range ups {
		ear.put(t, m.stream, m, m.payload)
		var sealed relayv1.Sealed
		if err := proto.Unmarshal([]byte(m.payload), &sealed); err != nil {
			t.Fatal(err)
		}
		for _, change := range []func(*relayv1.Uplink){
			func(u *relayv1.Uplink) { u.Tenant = "another" },
			func(u *relayv1.Uplink) { u.Epoch += 7 },
			func(u *relayv1.Uplink) { u.Counter += 1000 },
			func(u *relayv1.Uplink) { u.GatewayId = "gateway-9" },
			func(u *relayv1.Uplink) {
				u.Event = &relayv1.Uplink_Ended{Ended: &relayv1.SessionEnded{Reason: "CLOSED"}}
			},
		} {
			var u relayv1.Uplink
			if err := proto.Unmarshal(sealed.GetBody(), &u); err != nil {
				t.Fatal(err)
			}
			change(&u)
			body, _ := proto.Marshal(&u)
			payload, _ := proto.Marshal(&relayv1.Sealed{Body: body, Seal: sealed.GetSeal()})
			ear.put(t, m.stream, m, string(payload))
			forged++
		}
		ear.put(t, m.stream, m, "no message at all")
	}
	return forged
}

// hurtDownlinks repeats each message at both gateways, alters it and signs it with a key of its own, and returns how many
// there are to be refused.
func hurtDownlinks(t *testing.T, s *rig.Server, ear *tap, downs []taken) (refused int) {
	t.Helper()
	for _, m := range downs {
		var signed relayv1.SignedDownlink
		var d relayv1.Downlink
		if proto.Unmarshal([]byte(m.payload), &signed) != nil || proto.Unmarshal(signed.GetDownlink(), &d) != nil {
			t.Fatal("a downlink that cannot be read")
		}
		d.Tenant, d.Hash = "another", []byte("another offer")
		altered := proto.CloneOf(&signed)
		altered.Downlink, _ = proto.Marshal(&d)
		unknown := proto.CloneOf(&signed)
		unknown.KeyId = "mine"
		for _, gateway := range s.Gateways() {
			stream := "ampora:down:" + gateway.Name
			for _, message := range []*relayv1.SignedDownlink{&signed, altered, unknown} {
				payload, _ := proto.Marshal(message)
				ear.put(t, stream, m, string(payload))
				refused++
			}
			ear.put(t, stream, m, "no message at all")
			refused++
		}
	}
	return refused
}
