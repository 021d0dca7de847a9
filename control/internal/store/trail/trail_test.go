// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

var (
	at = time.Date(2026, 5, 4, 9, 0, 0, 0, time.UTC)
	by = fleet.By{Tenant: "t", At: at}

	group   = fleet.Group{ID: "g", Name: "edge", Description: "at the edge"}
	dynamic = fleet.Group{
		ID: "g", Name: "edge", Description: "at the edge", Selector: "true", Priority: 3,
		Default: fleet.DefaultConfig{Config: "c", ConfigName: "base"}, DefaultOnClaims: true,
	}
	draft      = fleet.ConfigVersion{Config: "c", Version: 2, State: fleet.VersionDraft, Revision: 1, Note: "first"}
	published  = fleet.ConfigVersion{Config: "c", Version: 2, State: fleet.VersionPublished, Revision: 1, Note: "first"}
	assignment = fleet.Assignment{Config: "c", ConfigName: "base", Version: 2, Generation: 3, Target: fleet.Target{Group: "g"}}
	redemption = store.Redemption{
		By:    by,
		Token: "b", Agent: "a", Method: fleet.EnrolledAsChild,
		Certificate: fleet.Certificate{Serial: "5e", Fingerprint: "f1", PublicKey: [32]byte{1}, DER: []byte("DER"), ChainPEM: []byte("PEM")},
	}
	pool = fleet.TokenPool{
		ID: "p", Name: "asg", Group: "g", TTL: time.Hour, LiveLimit: 5, PerHour: 60, Burst: 10, Hash: [32]byte{1}, PreviousHash: [32]byte{2},
	}
	drawn   = fleet.BootstrapToken{ID: "b", Pool: "p", PoolName: "asg", Group: "g", Hash: [32]byte{1}, ExpiresAt: at}
	back    = fleet.BootstrapToken{ID: "b", For: "a", Replaces: true, CreatedBy: "ci", Hash: [32]byte{1}, ExpiresAt: at}
	gateway = fleet.Gateway{ID: "gw", Scope: fleet.ScopeOf("t", "theirs"), Serial: "5e", NotAfter: at}
	claim   = fleet.Claim{Tenant: "t", Identity: "a", Gateway: "gw", Peer: "192.0.2.1:7", At: at, Takeover: fleet.TakeoverClone}
)

var noHash = fleet.ContentHash{}.String()

func TestEntries(t *testing.T) {
	versionIs := func(state string) string {
		return fmt.Sprintf(`{"hash":%q,"note":"first","revision":1,"state":%q}`, noHash, state)
	}
	poolIs := func(disabled bool) string {
		return fmt.Sprintf(`{"burst":10,"description":"","disabled":%v,"group":"g","live_limit":5,"name":"asg","per_hour":60,"ttl":"1h0m0s"}`, disabled)
	}
	disabled := true
	first := func(e trail.Entry, _ fleet.Event) trail.Entry { return e }
	_, child, _ := trail.Child(claim, "k")
	_, quarantined, _ := trail.Quarantined(claim, "a")
	_, join := trail.GatewayJoined("t", store.Joining{Token: "j", PublicKey: [32]byte{1}, At: at}, gateway)
	for _, c := range []struct {
		entry               trail.Entry
		what, before, after string
	}{
		{
			trail.APITokenCreated(fleet.APIToken{ID: "i", Name: "ci", Role: fleet.RoleViewer, Hash: [32]byte{1}, ExpiresAt: at}),
			"api_token.create api_token i", "",
			fmt.Sprintf(`{"expires_at":"2026-05-04T09:00:00Z","name":"ci","procedures":[],"role":%q}`, fleet.RoleViewer),
		},
		{trail.APITokenRevoked(fleet.APIToken{ID: "i", Name: "ci"}), "api_token.revoke api_token i", "", `{"name":"ci"}`},
		{
			trail.BootstrapTokenIssued(fleet.BootstrapToken{ID: "b", Group: "g", Hash: [32]byte{1}, ExpiresAt: at}),
			"bootstrap_token.issue bootstrap_token b", "",
			`{"description":"","expires_at":"2026-05-04T09:00:00Z","group":"g"}`,
		},
		{
			trail.JoinTokenIssued(fleet.JoinToken{ID: "j", Gateway: "gw", Hash: [32]byte{1}, Scope: fleet.ScopeOf("t"), ExpiresAt: at}),
			"join_token.issue join_token j", "", `{"expires_at":"2026-05-04T09:00:00Z","gateway":"gw"}`,
		},
		{trail.JoinTokenRevoked(fleet.JoinToken{ID: "j", Gateway: "gw"}), "join_token.revoke join_token j", "", `{"gateway":"gw"}`},
		{
			join, "gateway.join gateway gw", "",
			`{"not_after":"2026-05-04T09:00:00Z","serial":"5e","serves":true,"shared":true,"token":"j"}`,
		},
		{trail.GatewayRevoked(gateway), "gateway.revoke gateway gw", "", `{"serial":"5e"}`},
		{trail.BootstrapTokenRevoked("b"), "bootstrap_token.revoke bootstrap_token b", "", ""},
		{
			first(trail.Enrolled(redemption, drawn, "g")), "agent.enrol agent a", "",
			fmt.Sprintf(`{"fingerprint":"f1","group":"g","method":%q,"pool":"asg","serial":"5e","token":"b"}`, fleet.EnrolledAsChild),
		},
		{
			trail.BootstrapTokenIssued(drawn), "bootstrap_token.issue bootstrap_token b", "",
			`{"description":"","expires_at":"2026-05-04T09:00:00Z","group":"g","pool":"asg"}`,
		},
		{
			trail.BootstrapTokenIssued(back), "bootstrap_token.issue bootstrap_token b", "",
			`{"agent":"a","description":"","expires_at":"2026-05-04T09:00:00Z","group":"","replace":true}`,
		},
		{
			first(trail.Returned(redemption, back)), "agent.return agent a", "",
			fmt.Sprintf(`{"fingerprint":"f1","issued_by":"ci","method":%q,"replace":true,"serial":"5e","token":"b"}`, fleet.EnrolledAsChild),
		},
		{trail.OfferedAgain("a", 3), "agent.offer_certificate agent a", `{"offers":3}`, ""},
		{trail.PoolCreated(pool), "token_pool.create token_pool p", "", poolIs(false)},
		{trail.PoolUpdated(pool, fleet.PoolChange{Disabled: &disabled}.Of(pool, at)), "token_pool.update token_pool p", poolIs(false), poolIs(true)},
		{trail.PoolRotated(pool, at), "token_pool.rotate_secret token_pool p", "", `{"former_until":"2026-05-04T09:00:00Z","name":"asg"}`},
		{trail.PoolRotated(pool, time.Time{}), "token_pool.rotate_secret token_pool p", "", `{"name":"asg"}`},
		{trail.PoolDeleted(pool, 3), "token_pool.delete token_pool p", poolIs(false), `{"revoked_tokens":3}`},
		{child, "agent.enrol agent k", "", fmt.Sprintf(`{"method":%q,"parent":"a"}`, fleet.EnrolledAsChild)},
		{quarantined, "agent.quarantine agent a", "", `{"gateway":"gw","peer":"192.0.2.1:7"}`},
		{trail.ConfigRetried("a", 2), "agent.retry_config agent a", "", `{"cleared":2}`},
		{trail.ChildrenAllowed("a", 1, 4), "agent.allow_children agent a", `{"max_children":1}`, `{"max_children":4}`},
		{trail.GroupCreated(group), "group.create group g", "", `{"description":"at the edge","name":"edge"}`},
		{trail.GroupDeleted(group), "group.delete group g", `{"description":"at the edge","name":"edge"}`, ""},
		{trail.GroupUndeleted(group), "group.undelete group g", "", `{"description":"at the edge","name":"edge"}`},
		{
			trail.GroupUpdated(group, dynamic), "group.update group g", `{"description":"at the edge","name":"edge"}`,
			`{"default_config":"c","default_on_claims":true,"default_version":0,"description":"at the edge","name":"edge","priority":3,"selector":"true"}`,
		},
		{trail.Placed("g", []fleet.AgentID{"a"}, true), "group.place_members group g", "", `{"agents":["a"]}`},
		{trail.Placed("g", []fleet.AgentID{"a"}, false), "group.release_members group g", "", `{"agents":["a"]}`},
		{trail.DefaultGiven(dynamic, 2, []fleet.AgentID{"a"}), "group.give_default group g", "", `{"agents":["a"],"config":"c","name":"base","version":2}`},
		{
			trail.BootstrapTokenIssued(fleet.BootstrapToken{ID: "b", Tags: fleet.Tags{"site": "berlin"}, ExpiresAt: at}),
			"bootstrap_token.issue bootstrap_token b", "",
			`{"description":"","expires_at":"2026-05-04T09:00:00Z","group":"","tags":{"site":"berlin"}}`,
		},
		{trail.MembersMoved("g", []fleet.AgentID{"a", "k"}, "g"), "group.add_members group g", "", `{"agents":["a","k"]}`},
		{trail.MembersMoved("g", []fleet.AgentID{"a"}, ""), "group.remove_members group g", "", `{"agents":["a"]}`},
		{
			trail.ConfigCreated(fleet.Config{ID: "c", Name: "base"}), "config.create config c", "",
			`{"description":"","kind":"","name":"base"}`,
		},
		{trail.VersionCreated(draft), "config_version.create config_version c/2", "", versionIs("draft")},
		{trail.VersionUpdated(draft, published), "config_version.update config_version c/2", versionIs("draft"), versionIs("published")},
		{first(trail.VersionPublished(by, published)), "config_version.publish config_version c/2", "", versionIs("published")},
		{trail.VersionArchived(published), "config_version.archive config_version c/2", "", ""},
		{
			first(trail.Assigned(by, assignment)), "assignment.assign assignment g", "",
			`{"config":"c","generation":3,"name":"base","target":"group","version":2}`,
		},
		{
			first(trail.Unassigned(by, assignment)), "assignment.unassign assignment g", "",
			`{"config":"c","generation":3,"name":"base","target":"group","version":2}`,
		},
	} {
		before, after, err := c.entry.Objects()
		what := strings.Join([]string{c.entry.Action, c.entry.EntityKind, c.entry.EntityID}, " ")
		if err != nil || what != c.what || before != orNil(c.before) || after != orNil(c.after) {
			t.Errorf("%s: %v to %v (%v)\nwant %s: %s to %s", what, before, after, err, c.what, c.before, c.after)
		}
	}
}

func orNil(object string) any {
	if object == "" {
		return nil
	}
	return object
}

func TestEvents(t *testing.T) {
	second := func(_ trail.Entry, e fleet.Event) fleet.Event { return e }
	ofAgent := assignment
	ofAgent.Target = fleet.Target{Agent: "a"}
	_, _, child := trail.Child(claim, "k")
	_, _, quarantined := trail.Quarantined(claim, "a")
	for _, c := range []struct {
		event                     fleet.Event
		kind                      fleet.EventKind
		agent, message, attribute string
	}{
		{second(trail.Enrolled(redemption, drawn, "g")), fleet.EventAgentEnrolled, "a", "enrolled (child)", "group=g"},
		{second(trail.Enrolled(redemption, drawn, "g")), fleet.EventAgentEnrolled, "a", "enrolled (child)", "pool=asg"},
		{child, fleet.EventAgentEnrolled, "k", "first seen behind its parent", "parent=a"},
		{quarantined, fleet.EventAgentQuarantined, "a", "taken over by a clone 3 times within 10m0s", "gateway=gw"},
		{trail.Connected(claim, "a", true), fleet.EventAgentConnected, "a", "connected at gateway gw", "took_over=clone"},
		{trail.Connected(claim, "a", false), fleet.EventAgentConnected, "a", "connected at gateway gw", "took_over="},
		{
			trail.Disconnected("t", "a", "gw", trail.EndGatewayLost, at), fleet.EventAgentDisconnected, "a",
			"disconnected: GATEWAY_LOST", "reason=GATEWAY_LOST",
		},
		{trail.Moved(by, "a", "", "g"), fleet.EventGroupChanged, "a", "Joined a group", "to=g"},
		{trail.Moved(by, "a", "g", ""), fleet.EventGroupChanged, "a", trail.LeftGroup, "from=g"},
		{trail.GotDefault(by, dynamic, 2, "a"), fleet.EventAssigned, "a", "base@2 is the default of its group", "target=default"},
		{second(trail.VersionPublished(by, published)), fleet.EventConfigPublished, "", "version 2 published", "version=2"},
		{second(trail.Assigned(by, ofAgent)), fleet.EventAssigned, "a", "base@2 assigned to the agent", "target=agent"},
		{second(trail.Assigned(by, assignment)), fleet.EventAssigned, "", "base@2 assigned to the group", "id=g"},
		{second(trail.Unassigned(by, assignment)), fleet.EventAssigned, "", "assignment of the group removed", "config=c"},
	} {
		e := c.event
		key, value, _ := strings.Cut(c.attribute, "=")
		if e.Tenant != "t" || !e.At.Equal(at) || e.Kind != c.kind || string(e.Agent) != c.agent || e.Message != c.message ||
			e.Attributes[key] != value {
			t.Errorf("%+v\nwant %s of agent %q: %q with %s", e, c.kind, c.agent, c.message, c.attribute)
		}
	}
}

func TestWhatIsNoJSON(t *testing.T) {
	for _, e := range []trail.Entry{{Before: trail.Fields{"f": func() {}}}, {After: trail.Fields{"f": func() {}}}} {
		if before, after, err := e.Objects(); err == nil {
			t.Errorf("%v became %v and %v", e, before, after)
		}
	}
}
