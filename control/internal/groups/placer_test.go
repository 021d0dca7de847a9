// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package groups_test

import (
	"crypto/sha256"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/groups"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/sqlite"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// limit is how many agents one act may change here.
const limit = 3

// world is a store with a tenant, and a placer that looks when it is told to.
type world struct {
	*testing.T
	*sqlite.Store
	placer *groups.Placer
	now    time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, now: time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)}
	path := filepath.Join(t.TempDir(), "ampora.db")
	_, err := migrations.Apply(t.Context(), "sqlite:"+path)
	w.must(err)
	w.Store, err = sqlite.Open(t.Context(), path)
	w.must(err)
	t.Cleanup(func() { _ = w.Store.Close() })
	_, err = w.EnsureTenant(t.Context(), fleet.Tenant{ID: "acme", CreatedAt: w.now, WrappedDataKey: []byte("k")})
	w.must(err)
	w.placer, err = groups.New(groups.Deps{Store: w.Store, Limit: limit, Log: slog.New(slog.DiscardHandler), Meter: noop.Meter{}, Now: func() time.Time { return w.now }})
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) by() fleet.By { return fleet.System("acme", w.now) }

// enrol is a new agent with a tag.
func (w *world) enrol(site string) fleet.AgentID {
	w.Helper()
	id := fleet.AgentID(identity.NewAgentID())
	hash := sha256.Sum256([]byte(id))
	serial := fleet.Serial(fmt.Sprintf("%x", hash[:10]))
	token := fleet.BootstrapToken{
		ID: fleet.TokenID(identity.NewAgentID()), Tenant: "acme", Hash: hash, Tags: fleet.Tags{"site": site}, CreatedBy: "t", CreatedAt: w.now, ExpiresAt: w.now.Add(time.Hour),
	}
	w.must(w.IssueBootstrapToken(w.Context(), w.by(), token))
	w.must(w.Redeem(w.Context(), []store.Redemption{{
		By: w.by(), Token: token.ID, Agent: id, Method: fleet.EnrolledByEST, Partition: bus.PartitionOf(identity.AgentID(id)),
		Certificate: fleet.Certificate{
			Tenant: "acme", Serial: serial, Fingerprint: fleet.Fingerprint(serial), Agent: id, Key: "k", NotBefore: w.now, NotAfter: w.now.AddDate(1, 0, 0),
			DER: []byte("d"), ChainPEM: []byte("p"), PublicKey: hash, CreatedAt: w.now,
		},
	}})[0])
	return id
}

func (w *world) create(name, selector string, adjust ...func(*fleet.Group)) fleet.Group {
	w.Helper()
	g := fleet.Group{Tenant: "acme", ID: fleet.GroupID(identity.NewAgentID()), Name: name, Selector: selector, CreatedAt: w.now}
	for _, change := range adjust {
		change(&g)
	}
	g, err := w.CreateGroup(w.Context(), w.by(), g)
	w.must(err)
	return g
}

func (w *world) redefine(g fleet.Group, selector string) fleet.Group {
	w.Helper()
	is := g
	is.Selector = selector
	g, err := w.UpdateGroup(w.Context(), w.by(), g, is)
	w.must(err)
	return g
}

func (w *world) look() {
	w.Helper()
	w.now = w.now.Add(groups.Pause)
	w.must(w.placer.Look(w.Context()))
}

func (w *world) read(name string) fleet.Group {
	w.Helper()
	g, err := w.Group(w.Context(), "acme", name)
	w.must(err)
	return g
}

func (w *world) wantIn(group fleet.GroupID, agents ...fleet.AgentID) {
	w.Helper()
	for _, id := range agents {
		a, err := w.Agent(w.Context(), "acme", id)
		if err != nil || a.Group != group {
			w.Errorf("agent %s is in %q, want %q (%v)", id, a.Group, group, err)
		}
	}
}

func site(name string) string { return fmt.Sprintf("agent.verified.tags.site == %q", name) }

func TestAgentsFollowSelectors(t *testing.T) {
	w := newWorld(t)
	early := w.enrol("berlin")
	berlin := w.create("berlin", site("berlin"))
	w.wantIn("", early)
	w.look()
	late, other := w.enrol("berlin"), w.enrol("paris")
	w.wantIn(berlin.ID, early)
	w.look()
	w.wantIn(berlin.ID, early, late)
	w.wantIn("", other)

	first := w.create("first", "true", func(g *fleet.Group) { g.Priority = 1 })
	w.look()
	w.wantIn(first.ID, early, late, other)
	w.redefine(first, site("paris"))
	w.look()
	w.wantIn(berlin.ID, early, late)
	w.wantIn(first.ID, other)

	// Explicit members are nobody's to choose, until they are taken out.
	static := w.create("static", "")
	_, err := w.AddGroupMembers(w.Context(), w.by(), static.ID, []fleet.AgentID{early}, 20)
	w.must(err)
	w.look()
	w.wantIn(static.ID, early)
	_, err = w.RemoveGroupMembers(w.Context(), w.by(), static.ID, []fleet.AgentID{early})
	w.must(err)
	w.look()
	w.wantIn(berlin.ID, early)

	// What is deleted lets go, what is restored chooses again.
	w.must(w.DeleteGroup(w.Context(), w.by(), berlin.ID))
	w.look()
	w.wantIn("", early, late)
	_, err = w.UndeleteGroup(w.Context(), w.by(), berlin.ID)
	w.must(err)
	w.look()
	w.wantIn(berlin.ID, early, late)
}

// TestMoreThanMayChangeWait for what the group gives, as members of it; who comes later does not wait with them.
func TestMoreThanMayChangeWait(t *testing.T) {
	w := newWorld(t)
	var agents []fleet.AgentID
	for i := range limit + 1 {
		agents = append(agents, w.enrol(fmt.Sprint("site-", i)))
	}
	config := w.published()
	g := w.create("all", "true", func(g *fleet.Group) { g.Default = fleet.DefaultConfig{Config: config} })
	w.look()
	w.wantIn(g.ID, agents...)
	if got := w.read("all"); got.WaitingCount != limit+1 || got.MemberCount != limit+1 {
		t.Fatalf("the group is %+v", got)
	}
	w.wantIn(g.ID, func() fleet.AgentID { id := w.enrol("later"); w.look(); return id }())
	if got := w.read("all"); got.WaitingCount != limit+1 || got.MemberCount != limit+2 {
		t.Errorf("the group is %+v", got)
	}
	// Those that are taken elsewhere do not wait there.
	static := w.create("static", "")
	_, err := w.AddGroupMembers(w.Context(), w.by(), static.ID, agents[:2], 20)
	w.must(err)
	w.look()
	if got := w.read("all"); got.WaitingCount != limit-1 {
		t.Errorf("the group is %+v", got)
	}
}

// published is a configuration with a published version.
func (w *world) published() fleet.ConfigID {
	w.Helper()
	hash := fleet.HashOf([]byte("a: b"))
	w.must(w.PutBodies(w.Context(), "acme", w.now, []store.SealedBody{{Hash: hash, Size: 4, Sealed: []byte("s")}}))
	c := fleet.Config{Tenant: "acme", ID: fleet.ConfigID(identity.NewAgentID()), Name: "edge", Kind: fleet.KindCollector, CreatedAt: w.now}
	_, err := w.CreateConfig(w.Context(), w.by(), c, &fleet.ConfigVersion{
		Tenant: "acme", Config: c.ID, Version: 1, State: fleet.VersionDraft, Hash: hash, Size: 4, ContentType: "text/yaml", Revision: 1,
		Offer: fleet.Rendered(hash, 4, "text/yaml").OfferHash(), CreatedBy: "t", CreatedAt: w.now,
	})
	w.must(err)
	_, err = w.PublishConfigVersion(w.Context(), w.by(), fleet.Publication{Config: c.ID, Version: 1})
	w.must(err)
	return c.ID
}

func TestWhatASelectorFailsOfIsShown(t *testing.T) {
	w := newWorld(t)
	agents := []fleet.AgentID{w.enrol("berlin"), w.enrol("berlin")}
	g := w.create("g", site("berlin"))
	w.look()
	w.wantIn(g.ID, agents...)
	g = w.redefine(g, `1 / (agent.verified.id.size() - 36) == 1`)
	agents = append(agents, w.enrol("berlin"))
	w.look()
	w.wantIn(g.ID, agents[:2]...)
	w.wantIn("", agents[2])
	since := w.now
	if got := w.read("g").Failing; got.Agents != 3 || !got.Since.Equal(since) || got.Words == "" {
		t.Errorf("failing: %+v", got)
	}
	w.now = w.now.Add(groups.Sweep)
	w.look()
	if got := w.read("g").Failing; got.Agents != 3 || !got.Since.Equal(since) {
		t.Errorf("later: %+v", got)
	}
	w.redefine(w.read("g"), "true")
	w.look()
	if got := w.read("g"); got.Failing != (fleet.SelectorFailure{}) || got.MemberCount != 3 {
		t.Errorf("at last: %+v", got)
	}
}

func TestPreview(t *testing.T) {
	w := newWorld(t)
	var berlin []fleet.AgentID
	for range 5 {
		berlin = append(berlin, w.enrol("berlin"))
	}
	w.enrol("paris")
	static := w.create("static", "")
	_, err := w.AddGroupMembers(w.Context(), w.by(), static.ID, berlin[:1], 20)
	w.must(err)
	first := w.create("first", fmt.Sprintf("agent.verified.id == %q", berlin[1]), func(g *fleet.Group) { g.Priority = 9 })
	low := w.create("low", fmt.Sprintf("agent.verified.id == %q", berlin[2]), func(g *fleet.Group) { g.Priority = -9 })
	w.look()
	proposed := fleet.Group{ID: fleet.GroupID(identity.NewAgentID()), Selector: site("berlin")}
	seen, err := groups.Preview(w.Context(), w.Store, "acme", proposed, 2)
	w.must(err)
	if seen.Agents != 6 || seen.Matched != 5 || seen.Explicit != 1 || seen.Elsewhere != 1 || seen.Joining != 3 || seen.Members != 0 ||
		seen.From[""] != 2 || seen.From[low.ID] != 1 || len(seen.Sample) != 2 || !slices.Contains(berlin, seen.Sample[0].Agent) {
		t.Errorf("seen %+v", seen)
	}
	w.wantIn("", berlin[3])
	// In the place of a group's own.
	low.Selector = site("berlin")
	seen, err = groups.Preview(w.Context(), w.Store, "acme", low, 0)
	w.must(err)
	if seen.Members != 1 || seen.Joining != 2 || seen.Elsewhere != 1 || len(seen.Sample) != 0 {
		t.Errorf("in place: %+v", seen)
	}
	first.Selector = `1 / (agent.verified.id.size() - 36) == 1`
	if seen, err = groups.Preview(w.Context(), w.Store, "acme", first, 5); err != nil || seen.Failing.Agents != 6 || seen.Failing.Words == "" || seen.Matched != 0 {
		t.Errorf("failing: %+v, %v", seen, err)
	}
	first.Selector = "agent."
	if _, err := groups.Preview(w.Context(), w.Store, "acme", first, 5); err == nil {
		t.Error("what is no expression was previewed")
	}
}

// TestManyPagesAreLookedAt: more agents than are read at once.
func TestManyPagesAreLookedAt(t *testing.T) {
	w := newWorld(t)
	var agents []fleet.AgentID
	for range 2100 {
		agents = append(agents, w.enrol("berlin"))
	}
	g := w.create("all", "true")
	w.look()
	if got := w.read("all"); got.MemberCount != len(agents) {
		t.Errorf("the group is %+v", got)
	}
	w.wantIn(g.ID, agents[0], agents[1999], agents[2000], agents[2099])
}
