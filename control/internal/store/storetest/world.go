// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// world is a store with a tenant, and with what a fleet needs before anything can happen to it. Its methods fail the
// test where the store fails.
type world struct {
	*testing.T
	store.Store
	tenant fleet.TenantID
	// now is the time of what happens next; tests move it on.
	now time.Time
}

func newWorld(t *testing.T, open func(*testing.T) store.Store) *world {
	w := &world{T: t, Store: open(t), tenant: "acme", now: time.Date(2026, 5, 4, 9, 0, 0, 123456000, time.UTC)}
	return w.in("acme")
}

// in is the world seen by another tenant of the same store.
func (w *world) in(tenant fleet.TenantID) *world {
	w.Helper()
	_, err := w.EnsureTenant(w.Context(), fleet.Tenant{ID: tenant, CreatedAt: w.now, WrappedDataKey: []byte("wrapped")})
	w.must(err)
	other := *w
	other.tenant = tenant
	return &other
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// want fails the test unless err is target.
func (w *world) want(err, target error) {
	w.Helper()
	if !errors.Is(err, target) {
		w.Fatalf("error is %v, want %v", err, target)
	}
}

func (w *world) pass(d time.Duration) { w.now = w.now.Add(d) }

func (w *world) by() fleet.By {
	return fleet.By{
		Principal: fleet.Principal{Kind: fleet.PrincipalAPIToken, ID: "t1", Name: "ci", Tenant: w.tenant, Role: fleet.RoleOperator},
		Tenant:    w.tenant, At: w.now, Source: "192.0.2.1",
	}
}

// agent is an enrolled identity with the certificate it presents and the uid it calls itself by.
type agent struct {
	id          fleet.AgentID
	serial      fleet.Serial
	fingerprint fleet.Fingerprint
	key         [32]byte
	uid         fleet.InstanceUID
	partition   int
}

func newUID() fleet.InstanceUID { return fleet.InstanceUID(uuid.New()) }

// enrol turns a fresh token into an identity.
func (w *world) enrol() agent {
	w.Helper()
	minted := identity.NewAgentID()
	sum := sha256.Sum256([]byte(minted))
	a := agent{
		id: fleet.AgentID(minted), serial: fleet.Serial(fmt.Sprintf("%x", sum[:10])), uid: newUID(),
		fingerprint: fleet.Fingerprint(fmt.Sprintf("%x", sum)), key: sum, partition: bus.PartitionOf(minted),
	}
	token := fleet.BootstrapToken{
		ID: fleet.TokenID(identity.NewAgentID()), Tenant: w.tenant, Hash: sum, CreatedBy: "ci", CreatedAt: w.now, ExpiresAt: w.now.Add(time.Hour),
	}
	w.must(w.IssueBootstrapToken(w.Context(), w.by(), token))
	w.must(w.redeem(store.Redemption{
		By: w.by(), Token: token.ID, Agent: a.id, Method: fleet.EnrolledByAgentCSR, Partition: a.partition,
		Certificate: fleet.Certificate{
			Tenant: w.tenant, Serial: a.serial, Fingerprint: a.fingerprint, Agent: a.id, Key: "k1",
			NotBefore: w.now, NotAfter: w.now.AddDate(1, 0, 0), DER: []byte("der"), ChainPEM: []byte("pem"), PublicKey: sum, CreatedAt: w.now,
		},
	}))
	return a
}

// gateway registers a gateway whose lease lasts a minute.
func (w *world) gateway(id fleet.GatewayID, boot uint64) fleet.Gateway {
	w.Helper()
	g := fleet.Gateway{ID: id, BootID: boot, Version: "1.0", StartedAt: w.now, LeaseUntil: w.now.Add(time.Minute)}
	w.must(w.RegisterGateway(w.Context(), g))
	return g
}

// claimAlone claims one session.
func (w *world) claimAlone(c fleet.Claim) (fleet.ClaimResult, error) {
	results, err := w.Claim(w.Context(), []fleet.Claim{c})
	if err != nil {
		return fleet.ClaimResult{}, err
	}
	return results[0], nil
}

// claimOf is the claim of an agent that connects to a gateway.
func (w *world) claimOf(a agent, g fleet.Gateway) fleet.Claim {
	return fleet.Claim{
		Tenant: w.tenant, Identity: a.id, Serial: a.serial, Fingerprint: a.fingerprint, UID: a.uid,
		Gateway: g.ID, BootID: g.BootID, Transport: fleet.TransportWebSocket, Peer: "198.51.100.7:4711", At: w.now,
	}
}

// takeover makes a claim take over the session that it is about as it stands.
func (w *world) takeover(c fleet.Claim, why fleet.Takeover) fleet.Claim {
	w.Helper()
	at, err := w.Standings(w.Context(), []fleet.Claim{c})
	w.must(err)
	c.Takeover, c.Contested = why, at[0].Epoch
	return c
}

func (w *world) claim(c fleet.Claim) fleet.ClaimResult {
	w.Helper()
	result, err := w.claimAlone(c)
	w.must(err)
	return result
}

// session is an agent's session as its gateway knows it.
type session struct {
	agent
	gateway fleet.Gateway
	epoch   fleet.Epoch
}

// connect claims the agent's session.
func (w *world) connect(a agent, g fleet.Gateway) session {
	w.Helper()
	result := w.claim(w.claimOf(a, g))
	if result.Outcome != fleet.ClaimClaimed || result.Agent != a.id {
		w.Fatalf("claim: %+v", result)
	}
	return session{agent: a, gateway: g, epoch: result.Epoch}
}

// connected is a new agent with an open session at a new gateway.
func (w *world) connected() session {
	w.Helper()
	return w.connect(w.enrol(), w.gateway("gw-1", 1<<63+7))
}

// agent reads an agent that is there.
func (w *world) agent(id fleet.AgentID) fleet.Agent {
	w.Helper()
	a, err := w.Agent(w.Context(), w.tenant, id)
	w.must(err)
	return a
}

// report is a message of the session with the parts, each of which says value.
func (w *world) report(s session, sequence fleet.Sequence, value string, kinds ...fleet.PartKind) *fleet.Report {
	r := &fleet.Report{
		Tenant: w.tenant, Agent: s.id, Gateway: s.gateway.ID, BootID: s.gateway.BootID,
		Stamp: fleet.Stamp{Epoch: s.epoch, Sequence: sequence}, At: w.now,
	}
	for _, kind := range kinds {
		r.Parts = append(r.Parts, fleet.Part{
			Kind: kind, Stamp: r.Stamp, At: r.At, Value: fmt.Appendf(nil, "{%q:%q}", "v", value), Raw: []byte(value), Digest: value,
			News: &fleet.Event{Kind: fleet.EventKind("test." + string(kind)), Message: value},
		})
	}
	return r
}

// acquire takes a partition for a replica that lives for a minute.
func (w *world) acquire(partition int, holder string) (store.PartitionLease, error) {
	if err := w.replica(holder); err != nil {
		return store.PartitionLease{}, err
	}
	return w.AcquirePartition(w.Context(), partition, holder, w.now)
}

// replica renews the lease of a replica for a minute.
func (w *world) replica(id string) error {
	_, err := w.RenewReplica(w.Context(), fleet.Replica{ID: id, StartedAt: w.now, LeaseUntil: w.now.Add(time.Minute)}, w.now)
	return err
}

func (w *world) lease(partition int) store.PartitionLease {
	w.Helper()
	lease, err := w.acquire(partition, "inbox-1")
	w.must(err)
	return lease
}

// record records uplinks under a partition's lease; which partition does not matter to the store.
func (w *world) record(uplinks ...fleet.Uplink) store.Recorded {
	w.Helper()
	done, err := w.Record(w.Context(), store.Record{Lease: w.lease(1), Position: "p", Uplinks: uplinks, At: w.now})
	w.must(err)
	return done
}

func (w *world) said(r *fleet.Report) store.Recorded {
	w.Helper()
	return w.record(fleet.Uplink{Report: r})
}

// body stores a body of these bytes.
func (w *world) body(clear string) fleet.ContentHash {
	w.Helper()
	hash := fleet.HashOf([]byte(clear))
	w.must(w.PutBodies(w.Context(), w.tenant, w.now, []store.SealedBody{{Hash: hash, Size: int64(len(clear)), Sealed: []byte("sealed " + clear)}}))
	return hash
}

// version publishes a configuration of its own with the bytes.
func (w *world) version(clear string) fleet.VersionRef {
	w.Helper()
	hash := w.body(clear)
	c := fleet.Config{Tenant: w.tenant, ID: fleet.ConfigID(identity.NewAgentID()), Name: clear, Kind: fleet.KindCollector, CreatedAt: w.now}
	kind := c.Kind.ContentType()
	v := fleet.ConfigVersion{
		Tenant: w.tenant, Config: c.ID, Version: 1, State: fleet.VersionDraft, Hash: hash, Size: int64(len(clear)), ContentType: kind, Revision: 1,
		Offer: fleet.Rendered(hash, int64(len(clear)), kind).OfferHash(), CreatedBy: "ci", CreatedAt: w.now,
	}
	_, err := w.CreateConfig(w.Context(), w.by(), c, &v)
	w.must(err)
	_, err = w.PublishConfigVersion(w.Context(), w.by(), fleet.Publication{Config: c.ID, Version: 1})
	w.must(err)
	return fleet.VersionRef{Config: c.ID, ConfigName: c.Name, Version: 1, Offer: v.Offer, Hash: hash, Size: v.Size, Type: kind}
}

// assign assigns the version to the agent or group.
func (w *world) assign(target fleet.Target, v fleet.VersionRef) {
	w.Helper()
	_, _, err := w.Assign(w.Context(), w.by(), fleet.Assignment{
		Tenant: w.tenant, Target: target, Config: v.Config, Version: v.Version, CreatedBy: "ci", CreatedAt: w.now,
	}, fleet.ImmediateLimit)
	w.must(err)
}

// work claims all items that are due, for ten seconds.
func (w *world) work() []store.WorkItem {
	w.Helper()
	items, err := w.ClaimWork(w.Context(), w.now, w.now.Add(10*time.Second), 1000)
	w.must(err)
	return items
}

// item claims the one item that is due.
func (w *world) item() store.WorkItem {
	w.Helper()
	items := w.work()
	if len(items) != 1 {
		w.Fatalf("%d items are due, want one: %+v", len(items), items)
	}
	return items[0]
}

func (w *world) situation(item store.WorkItem) fleet.Situation {
	w.Helper()
	s, err := w.Situations(w.Context(), item.Tenant, []fleet.AgentID{item.Agent}, nil)
	w.must(err)
	return s[0]
}

// do does one step that was decided on the situation.
func (w *world) do(item store.WorkItem, on fleet.Situation, step fleet.Step) error {
	outcomes, err := w.Apply(w.Context(), item.Tenant, []store.Decision{{Item: item, On: on, Step: step}}, w.now)
	if err != nil {
		return err
	}
	return outcomes[0]
}

// apply does the step for the one item that is due.
func (w *world) apply(step fleet.Step) {
	w.Helper()
	item := w.item()
	w.must(w.do(item, w.situation(item), step))
}

// grant opens a grant of the version for the one item that is due, and sends it.
func (w *world) grant(v fleet.VersionRef, generation fleet.Generation) {
	w.Helper()
	g := fleet.Grant{Version: v, State: fleet.GrantOpen, Reason: fleet.GrantAssigned, Generation: generation, OpenedAt: w.now}
	w.apply(fleet.Step{Grant: &g, Send: true})
}

// dispatches claims what is due, and again in ten seconds.
func (w *world) dispatches() []fleet.Dispatch {
	w.Helper()
	due, err := w.ClaimDispatches(w.Context(), w.now, w.now.Add(10*time.Second), 1000)
	w.must(err)
	return due
}

// kinds are the kinds of an agent's events, oldest first.
func (w *world) kinds(id fleet.AgentID) (kinds []fleet.EventKind) {
	w.Helper()
	events, _, err := w.EventsBefore(w.Context(), w.tenant, fleet.EventFilter{Agent: id}, fleet.Page{Size: 1000})
	w.must(err)
	for _, e := range events {
		kinds = append([]fleet.EventKind{e.Kind}, kinds...)
	}
	return kinds
}

// audited are the actions, or the reasons of refusals, on record about an entity.
func (w *world) audited(entity string) (words []string) {
	w.Helper()
	records, _, err := w.AuditRecords(w.Context(), w.tenant, entity, fleet.Page{Size: 1000})
	w.must(err)
	for _, r := range records {
		words = append(words, strings.TrimSpace(r.Action+" "+r.RefusalReason))
	}
	return words
}
