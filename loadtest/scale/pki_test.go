// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build scale

package scale

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestRotation: the signing key is followed by another while all agents are connected, and each is offered a certificate of
// the new one within the window. Each connects once more for it, and nobody needs the former key afterwards, which is then
// retired without a force.
func TestRotation(t *testing.T) {
	server := rig.NewServer(t, rig.SplitRedis)
	for _, control := range server.Controls() {
		control.Env["AMPORA_PKI_ROTATION_WINDOW"] = "1m"
	}
	c := gather(t, server, agents(t, 1000), "--enrol", "offer", "--fault", "burst=1/s")
	var former string
	for _, k := range c.keys() {
		if k.GetKind() == "intermediate" {
			former = k.GetId()
		}
	}
	created := new(amporav1.CreateSigningKeyResponse)
	c.s.Get(created, "signing-keys", "create")
	next := created.GetSigningKey().GetId()
	c.await("be at gateways that know the key", time.Minute, func() string {
		k := c.key(next)
		if k.GetConfirmedGateways() < k.GetGateways() {
			return fmt.Sprintf("%d of %d do", k.GetConfirmedGateways(), k.GetGateways())
		}
		return ""
	})
	began := time.Now()
	c.s.Do("signing-keys", "activate", next)
	c.await("have certificates of the new key", 10*time.Minute, func() string {
		if n := c.key(former).GetDependentAgents(); n > 0 {
			return fmt.Sprintf("%d have not", n)
		}
		return ""
	})
	t.Logf("%d agents came with a certificate of the new key within %.0f s", c.count, time.Since(began).Seconds())
	c.await("be on record", time.Minute, func() string { return c.others("online") })
	c.s.Do("signing-keys", "retire", former)
	time.Sleep(10 * time.Second) // which cuts nobody off
	counts := c.finish().Counts
	if got := counts["certificates"]; got != int64(c.count) {
		t.Errorf("%d certificates were taken", got)
	}
	if got := counts["most_dials"]; got != 2 {
		t.Errorf("one agent connected %d times", got)
	}
}

// keys are the tenant's signing keys.
func (c *crowd) keys() []*amporav1.SigningKey {
	list := new(amporav1.ListSigningKeysResponse)
	c.s.Get(list, "signing-keys", "list")
	return list.GetSigningKeys()
}

func (c *crowd) key(id string) *amporav1.SigningKey {
	c.t.Helper()
	for _, k := range c.keys() {
		if k.GetId() == id {
			return k
		}
	}
	c.t.Fatalf("there is no key %s", id)
	return nil
}

// TestBulkRevocation: a thousand agents are revoked in one act, at two gateways.
func TestBulkRevocation(t *testing.T) {
	c := gather(t, rig.NewServer(t, rig.SplitRedis), agents(t, 1000))
	list := new(amporav1.ListAgentsResponse)
	c.s.Get(list, "agents", "list", "--limit", "1000")
	var ids []string
	for _, a := range list.GetAgents() {
		ids = append(ids, a.GetId())
	}
	began := time.Now()
	c.s.Do(append([]string{"certificates", "revoke", "--reason", "cessation-of-operation"}, ids...)...)
	called := time.Since(began)
	deadline := began.Add(30 * time.Second)
	for c.sessions() > c.count-len(ids) {
		if time.Now().After(deadline) {
			t.Fatalf("%d sessions are left", c.sessions())
		}
		time.Sleep(20 * time.Millisecond)
	}
	cut := time.Since(began)
	t.Logf("%d agents were revoked by a call of %.1f s, and cut %.1f s after it began", len(ids), called.Seconds(), cut.Seconds())
	if cut-called > 5*time.Second {
		t.Error("that is late")
	}
	for range 20 { // none comes back
		if n := c.sessions(); n > c.count-len(ids) {
			t.Fatalf("%d are back", n)
		}
		time.Sleep(500 * time.Millisecond)
	}
	c.swarm.Kill()
	if log := c.swarm.Log(); strings.Contains(log, "panic") {
		t.Error(log)
	}
}
