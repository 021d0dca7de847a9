// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"fmt"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// deliveryOf waits until the agent's delivery has the state, and returns it.
func (p *plane) deliveryOf(t *testing.T, agent string, want amporav1.DeliveryState) *amporav1.ConfigDelivery {
	t.Helper()
	var got *amporav1.ConfigDelivery
	eventually(t, "delivery", func() error {
		a, err := p.agents.GetAgent(t.Context(), &amporav1.GetAgentRequest{Id: agent})
		if err != nil {
			return err
		}
		if got = a.GetAgent().GetConfigDelivery(); got.GetState() != want {
			return fmt.Errorf("agent %s is %s (%s), want %s", agent, got.GetState(), got.GetMessage(), want)
		}
		return nil
	})
	return got
}

func (p *plane) assignTo(t *testing.T, config, agent string) {
	t.Helper()
	_, err := p.assign.Assign(t.Context(), &amporav1.AssignRequest{
		ConfigId: config, Target: &amporav1.Target{Target: &amporav1.Target_AgentId{AgentId: agent}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

const (
	bodyOne   = "receivers: {one: {}}\n"
	bodyTwo   = "receivers: {two: {}}\n"
	bodyThree = "receivers: {three: {}}\n"
)

func offerOf(body string) string {
	offer := fleet.Rendered(fleet.HashOf([]byte(body)), int64(len(body)), fleet.KindOpaque.ContentType()).OfferHash()
	return string(offer[:])
}

func TestAConfigurationReachesItsAgent(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b := newBus(t)
		p := start(t, db, b, newMasterKey())
		c := newCrowd(t, p, b, 1)
		for id, a := range c.agents {
			config := p.published(t, "edge", bodyOne)
			p.assignTo(t, config, id)
			p.deliveryOf(t, id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)

			c.breaks(a, bodyTwo)
			p.next(t, config, bodyTwo)
			p.assignTo(t, config, id)
			failed := p.deliveryOf(t, id, amporav1.DeliveryState_DELIVERY_STATE_FAILED)
			if failed.GetMessage() != "cannot run it" || failed.GetVersion() != 2 {
				t.Errorf("failed with %v", failed)
			}
			c.holds(a, bodyOne)
			p.next(t, config, bodyThree)
			p.assignTo(t, config, id)
			p.deliveryOf(t, id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
			if n := c.offers(a, bodyTwo); n != 1 {
				t.Errorf("the version that failed was offered %d times", n)
			}
		}
	})
}

// TestMoreThanTwentyAgentsAreAssignedToByARollout: it is made and started with the assignment, which names it.
func TestMoreThanTwentyAgentsAreAssignedToByARollout(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b := newBus(t)
		p := start(t, db, b, newMasterKey())
		c := newCrowd(t, p, b, fleet.ImmediateLimit+1)
		var ids []string
		for id := range c.agents {
			ids = append(ids, id)
		}
		group, err := p.groups.CreateGroup(t.Context(), &amporav1.CreateGroupRequest{Name: "all"})
		if err != nil {
			t.Fatal(err)
		}
		add := func(ids []string) {
			t.Helper()
			if _, err := p.groups.AddGroupMembers(t.Context(), &amporav1.AddGroupMembersRequest{Id: group.GetGroup().GetId(), AgentIds: ids}); err != nil {
				t.Fatal(err)
			}
		}
		add(ids[1:])
		config := p.published(t, "edge", bodyOne)
		assign := &amporav1.AssignRequest{ConfigId: config, Target: &amporav1.Target{Target: &amporav1.Target_GroupId{GroupId: group.GetGroup().GetId()}}}
		done, err := p.assign.Assign(t.Context(), assign)
		if err != nil || done.GetAgents() != fleet.ImmediateLimit || done.GetRolloutId() != "" {
			t.Fatalf("20 agents: %v, %v", done, err)
		}
		for _, id := range ids[1:] {
			p.deliveryOf(t, id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
		}
		p.deliveryOf(t, ids[0], amporav1.DeliveryState_DELIVERY_STATE_NONE)
		add(ids[:1])
		p.deliveryOf(t, ids[0], amporav1.DeliveryState_DELIVERY_STATE_APPLIED)

		p.next(t, config, bodyTwo)
		done, err = p.assign.Assign(t.Context(), assign)
		if err != nil || done.GetAgents() != fleet.ImmediateLimit+1 || done.GetRolloutId() == "" {
			t.Fatalf("21 agents: %v, %v", done, err)
		}
		for _, id := range ids {
			c.holds(c.agents[id], bodyTwo)
		}
		for _, m := range (&rolling{T: t, db: db, id: fleet.RolloutID(done.GetRolloutId())}).members() {
			if m.AdmittedAt.IsZero() {
				t.Errorf("agent %s got it without being let in", m.Agent)
			}
		}
	})
}

func TestABootstrapTokenEnrolsOnce(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b := newBus(t)
		p := start(t, db, b, newMasterKey())
		c := newCrowd(t, p, b, 0)
		issued, err := p.tokens.IssueBootstrapToken(t.Context(), &amporav1.IssueBootstrapTokenRequest{})
		if err != nil {
			t.Fatal(err)
		}
		enrol := func(csr []byte) (*internalv1.EnrollResponse, error) {
			return c.control.Enroll(t.Context(), &internalv1.EnrollRequest{
				Token: issued.GetSecret(), CsrPem: csr, Method: internalv1.EnrollmentMethod_ENROLLMENT_METHOD_EST,
			})
		}
		csr := newCSR(t)
		first, err := enrol(csr)
		if err != nil {
			t.Fatal(err)
		}
		again, err := enrol(csr)
		if err != nil || string(again.GetCertificateChainPem()) != string(first.GetCertificateChainPem()) {
			t.Errorf("the same key did not get the same certificate again: %v", err)
		}
		if _, err := enrol(newCSR(t)); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("another key with a redeemed token: %v", err)
		}
		c.claim(&simulated{id: first.GetAgentId(), uid: [16]byte{1}}, first.GetCertificateChainPem())
		if _, err := enrol(csr); connect.CodeOf(err) != connect.CodeUnauthenticated {
			t.Errorf("the token still enrols after the first connection with its certificate: %v", err)
		}
	})
}

func TestAnotherMasterKeyStopsTheStart(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		if _, err := openKeyring(t.Context(), keys(newMasterKey()), db); err != nil {
			t.Fatal(err)
		}
		if _, err := openKeyring(t.Context(), keys(newMasterKey()), db); err == nil {
			t.Error("a database written under another master key was opened")
		}
	})
}

func TestTheTrustDomainIsFixed(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		for range 2 {
			if err := fixTrustDomain(t.Context(), db, "example.org"); err != nil {
				t.Error(err)
			}
		}
		if err := fixTrustDomain(t.Context(), db, "example.com"); err == nil {
			t.Error("the trust domain changed")
		}
	})
}

// TestATenantWithoutAuthorityHarmsNoOther: a tenant that was only just created (by bootstrap-admin, say) has no
// certificate authority yet.
func TestATenantWithoutAuthorityHarmsNoOther(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		p := start(t, db, newBus(t), newMasterKey())
		if _, err := db.EnsureTenant(t.Context(), fleet.Tenant{ID: "another", CreatedAt: time.Now(), WrappedDataKey: []byte("k")}); err != nil {
			t.Fatal(err)
		}
		trust, err := p.Gateways().GetTrust(t.Context(), &internalv1.GetTrustRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if n := len(trust.GetTenants()); n != 1 || trust.GetTenants()[0].GetTenant() != "default" {
			t.Errorf("trust of %d tenants", n)
		}
	})
}

// TestAnAgentThatBecomesCapableIsLookedAtAgain: an agent may change its capabilities at any time, and says nothing else.
func TestAnAgentThatBecomesCapableIsLookedAtAgain(t *testing.T) {
	t.Parallel()
	onBackends(t, func(t *testing.T, db store.Store) {
		b := newBus(t)
		p := start(t, db, b, newMasterKey())
		c := newCrowd(t, p, b, 1)
		a := c.only()
		reports := uint64(protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus)
		c.report(a, &protobufs.AgentToServer{Capabilities: reports, Health: &protobufs.ComponentHealth{Healthy: true}})
		eventually(t, "capabilities", func() error {
			got, err := p.agents.GetAgent(t.Context(), &amporav1.GetAgentRequest{Id: a.id})
			if n := len(got.GetAgent().GetCapabilities()); err == nil && n != 1 {
				err = fmt.Errorf("%d capabilities", n)
			}
			return err
		})
		p.assignTo(t, p.published(t, "edge", bodyOne), a.id)
		p.deliveryOf(t, a.id, amporav1.DeliveryState_DELIVERY_STATE_SKIPPED)
		c.report(a, &protobufs.AgentToServer{Capabilities: reports | uint64(protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig)})
		p.deliveryOf(t, a.id, amporav1.DeliveryState_DELIVERY_STATE_APPLIED)
	})
}
