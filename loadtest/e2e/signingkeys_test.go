// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestSigningKeys: a signing key is followed by another while agents are connected. Nobody is disturbed until the former
// one is retired, which is refused as long as somebody needs it, and openssl agrees at every step.
func TestSigningKeys(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		stale, staleID := s.Enrol("stale")
		filed, _ := s.Enrol("filed")
		_, live := run(t, s, "live", agent.Apply)
		before := s.AwaitOnline(live)
		former := active(t, s)

		created := new(amporav1.CreateSigningKeyResponse)
		s.Get(created, "signing-keys", "create")
		next := created.GetSigningKey().GetId()
		if k := created.GetSigningKey(); k.GetState() != amporav1.SigningKeyState_SIGNING_KEY_STATE_DRAFT || k.GetConfirmedGateways() != 0 || k.GetGateways() == 0 {
			t.Fatalf("the draft is %v", k)
		}
		if got := s.CLI("signing-keys", "activate", next); got.Code == 0 || !strings.Contains(got.Stderr, "SIGNING_KEY_NOT_CONFIRMED") {
			t.Fatalf("it was activated before the gateways knew it: %s", got.Stderr)
		}
		rig.Await(t, "the gateways to know the draft", func() string {
			k := signingKey(t, s, next)
			return unless(k.GetConfirmedGateways() == k.GetGateways() && k.GetGateways() > 0, k.String())
		})
		s.Do("signing-keys", "activate", next)
		if got := active(t, s); got != next {
			t.Fatalf("%s signs", got)
		}
		// What is issued from now on is of the new key, and good everywhere, within the time in which replicas learn of it.
		rig.Await(t, "certificates of the new key", func() string {
			fresh, _ := s.Enrol(fmt.Sprint("fresh-", time.Now().UnixNano()))
			leaf, _ := chain(t, s, fresh)
			return unless(strings.Contains(leaf.OCSPServer[0], next), leaf.OCSPServer[0])
		})
		bundle := download(t, s, "http://"+s.PKI+"/pki/trust-bundle.pem")
		for _, each := range []string{stale, filed} {
			if out := openssl(t, "verify", "-x509_strict", "-CAfile", bundle, each+"/cert.pem"); !strings.Contains(out, ": OK") {
				t.Errorf("openssl says: %s", out)
			}
		}
		// Some of the fresh ones may have come before every replica knew.
		if k := signingKey(t, s, former); k.GetState() != amporav1.SigningKeyState_SIGNING_KEY_STATE_TRUSTED || k.GetDependentAgents() < 3 || k.GetOnlineDependentAgents() != 1 {
			t.Errorf("the former key is %v", k)
		}
		if got := s.CLI("signing-keys", "retire", former); got.Code == 0 || !strings.Contains(got.Stderr, "SIGNING_KEY_IN_USE") {
			t.Fatalf("it was retired although agents need it: %s", got.Stderr)
		}
		// One renews its files, and comes with the new certificate: it needs the former key no more.
		s.Do("renew", "--server", "https://"+s.OpAMP, "--dir", filed, "--force")
		if after := s.AwaitOnline(live); after.GetSession().GetEpoch() != before.GetSession().GetEpoch() {
			t.Errorf("the agent was disturbed: %v", after.GetSession())
		}

		began := time.Now()
		s.Do("signing-keys", "retire", former, "--force")
		s.AwaitAgentTo(live, "be offline", func(a *amporav1.Agent) string {
			return unless(a.GetPresence() == amporav1.Presence_PRESENCE_OFFLINE && a.GetSession().GetEndReason() == "SIGNING_KEY_RETIRED", a.GetSession().String())
		})
		t.Logf("the session of the retired key was cut %s after the call began", time.Since(began).Round(time.Millisecond))
		// Who missed the rotation is refused from now on, whatever its gateway knows; its way back is a new token.
		if got := s.CLI("renew", "--server", "https://"+s.OpAMP, "--dir", stale, "--force"); got.Code == 0 {
			t.Error("it was renewed")
		}
		if got := s.CLI("renew", "--server", "https://"+s.OpAMP, "--dir", filed, "--force"); got.Code != 0 {
			t.Errorf("who has renewed before is refused: %s", got.Stderr)
		}
		s.Do("certificates", "revoke", "--signing-key", former, "--reason", "key-compromise")
		list := new(amporav1.ListCertificatesResponse)
		s.Get(list, "certificates", "list", staleID)
		if c := list.GetCertificates(); len(c) != 1 || c[0].GetRevokedAt() == nil {
			t.Errorf("its certificates are %v", c)
		}
	})
}

// signingKeys are those of the tenant.
func signingKeys(t *testing.T, s *rig.Server) []*amporav1.SigningKey {
	t.Helper()
	list := new(amporav1.ListSigningKeysResponse)
	s.Get(list, "signing-keys", "list")
	return list.GetSigningKeys()
}

func signingKey(t *testing.T, s *rig.Server, id string) *amporav1.SigningKey {
	t.Helper()
	for _, k := range signingKeys(t, s) {
		if k.GetId() == id {
			return k
		}
	}
	t.Fatalf("there is no key %s", id)
	return nil
}

// active is the key that signs for agents.
func active(t *testing.T, s *rig.Server) string {
	t.Helper()
	for _, k := range signingKeys(t, s) {
		if k.GetKind() == "intermediate" && k.GetState() == amporav1.SigningKeyState_SIGNING_KEY_STATE_ACTIVE {
			return k.GetId()
		}
	}
	t.Fatal("no key signs")
	return ""
}
