// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/gateway/internal/session"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
	"gitlab.com/ampora/ampora/shared/bus/inproc"
	"gitlab.com/ampora/ampora/shared/downlink"
)

var signing = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, ed25519.SeedSize))

func signed(t testing.TB, asked *relayv1.Downlink) []byte {
	t.Helper()
	body, err := proto.Marshal(asked)
	if err != nil {
		t.Fatal(err)
	}
	payload, err := proto.Marshal(&relayv1.SignedDownlink{Downlink: body, KeyId: "k1", Signature: downlink.Sign(signing, body)})
	if err != nil {
		t.Fatal(err)
	}
	return payload
}

func newDownlinks(t testing.TB, registry *session.Registry, publisher *Publisher) *Downlinks {
	t.Helper()
	keys := map[string]ed25519.PublicKey{"k1": signing.Public().(ed25519.PublicKey)}
	d, err := NewDownlinks(DownlinksConfig{
		Origin: origin, Bus: inproc.New(inproc.Options{}), Registry: registry, Publisher: publisher, Log: slog.New(slog.DiscardHandler),
		Clock: time.Now, Registration: registered(), Keys: func() (map[string]ed25519.PublicKey, error) { return keys, nil },
		Render: func(hash []byte, _ []Entry) ([]byte, error) { return hash, nil },
	}, noop.Meter{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestReplays(t *testing.T) {
	noon := time.Unix(1_800_000_000, 0)
	r := newReplays()
	take := func(what string, after time.Duration) bool {
		return r.take([]byte(what), noon.Add(time.Minute), noon.Add(after))
	}
	if !take("a", 0) || take("a", time.Second) || !take("b", time.Second) || take("a", 59*time.Second) {
		t.Error("it is not the first that counts")
	}
	// After its deadline the bytes are refused as expired; their place is free.
	if !take("c", time.Minute) || len(r.seen) != 1 || len(r.order) != 1 {
		t.Errorf("%d are remembered", len(r.seen))
	}
	for i := range maxReplays + 10 {
		r.take([]byte{byte(i), byte(i >> 8), byte(i >> 16)}, noon.Add(time.Hour), noon)
	}
	if len(r.seen) > maxReplays || len(r.order) > maxReplays {
		t.Errorf("%d are remembered", len(r.seen))
	}
}

// A downlink that was taken is refused when it comes once more, whoever sends it.
func TestDownlinksAreTakenOnce(t *testing.T) {
	registry := session.NewRegistry(func(*session.Session, session.EndReason) {})
	d := newDownlinks(t, registry, nil)
	payload := signed(t, &relayv1.Downlink{GatewayId: string(origin.Gateway), Tenant: "acme", NotAfter: timestamppb.New(time.Now().Add(time.Minute))})
	if _, err := d.verified(payload); err != nil {
		t.Fatal(err)
	}
	if _, err := d.verified(payload); !errors.Is(err, errReplayed) {
		t.Errorf("once more: %v", err)
	}
}
