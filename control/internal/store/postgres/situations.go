// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Situations implements store.Work. It asks each table once, for all agents, and puts together itself what it finds: a
// join would be planned by statistics of before the burst.
func (s *Store) Situations(
	ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID, rendered map[fleet.AgentID]fleet.VersionRef,
) ([]fleet.Situation, error) {
	l := look{tenant: tenant, agents: agents, ids: ids(agents, itself)}
	err := s.reading(ctx, tenant, func(tx pgx.Tx) error {
		l.of = make(map[fleet.AgentID]*circumstances, len(agents))
		if err := pipelined(ctx, tx, "read the agents", l.leases, l.agentRows, l.deliveries, l.statuses, l.drifts, l.ownAssignments, l.grants, l.lastGood); err != nil {
			return err
		}
		if err := pipelined(ctx, tx, "read the groups' assignments", l.groupAssignments, l.defaults, l.waiting); err != nil {
			return err
		}
		if err := pipelined(ctx, tx, "read the rollouts", l.rollouts, l.members); err != nil {
			return err
		}
		versions, err := readVersions(ctx, tx, tenant, l.versionKeys())
		if err != nil {
			return err
		}
		l.putVersions(versions)
		for agent, v := range rendered {
			l.at(agent).Situation = verdict.Rendered(l.at(agent).Situation, v)
		}
		l.hold()
		return pipelined(ctx, tx, "read the ledgers", l.ledgers)
	})
	if err != nil {
		return nil, err
	}
	return l.situations(), nil
}

// look is a look at agents of a tenant.
type look struct {
	tenant fleet.TenantID
	agents []fleet.AgentID
	ids    pgtype.FlatArray[[16]byte]
	of     map[fleet.AgentID]*circumstances
	// leased is what is known of the processes of gateways.
	leased map[verdict.Server]lease
}

// lease is how long a gateway's process is heard.
type lease struct {
	until   time.Time
	busLost bool
}

// circumstances are a situation in the making, with the names of the versions that belong into it.
type circumstances struct {
	fleet.Situation
	group                         fleet.GroupID
	desired, given, good, settled versionKey
	// rollout is the one that the group's assignment is under.
	rollout fleet.RolloutID
	at      verdict.Standstill
}

// versionKey names a version of a tenant, as it was offered if there is an offer; the zero one none.
type versionKey struct {
	config  fleet.ConfigID
	version int
	offer   fleet.OfferHash
}

// situations are what was seen of each agent; the zero one of those that are gone.
func (l *look) situations() []fleet.Situation {
	all := make([]fleet.Situation, len(l.agents))
	for i, agent := range l.agents {
		if c := l.of[agent]; c != nil {
			all[i] = c.Situation
		}
	}
	return all
}

// at are the circumstances of an agent; of one whose row is gone, nobody's.
func (l *look) at(agent fleet.AgentID) *circumstances {
	if c := l.of[agent]; c != nil {
		return c
	}
	return &circumstances{Situation: fleet.Situation{Attempts: map[fleet.OfferHash]fleet.Attempt{}}}
}

func (l *look) leases(q *pipeline) {
	l.leased = map[verdict.Server]lease{}
	var gateway fleet.GatewayID
	var boot int64
	var is lease
	q.ask(func() error {
		l.leased[verdict.Server{Gateway: gateway, BootID: column.Unbits(boot)}] = is
		return nil
	}, []any{&gateway, &boot, (*instant)(&is.until), &is.busLost}, `SELECT id, boot_id, lease_until, bus_lost FROM gateways`)
}

func (l *look) agentRows(q *pipeline) {
	var c circumstances
	var boot int64
	q.ask(func() error {
		c.Session.BootID = column.Unbits(boot)
		is := l.leased[verdict.Server{Gateway: c.Session.Gateway, BootID: c.Session.BootID}]
		c.Session.GatewayLeaseUntil, c.Session.GatewayBusLost = is.until, is.busLost
		seen := c
		seen.Tenant, seen.Delivery.State, seen.Attempts = l.tenant, fleet.DeliveryNone, map[fleet.OfferHash]fleet.Attempt{}
		l.of[c.Agent] = &seen
		c = circumstances{}
		return nil
	}, []any{
		&c.Agent, (*text)(&c.group), &c.AcceptsConfig, &c.Attention, &c.Healthy, &c.Session.Epoch, &c.Session.Gateway, &boot, &c.Session.Transport,
		&c.Session.Peer, (*instant)(&c.Session.ConnectedAt), (*instant)(&c.Session.LastSeenAt), (*instant)(&c.Session.EndedAt), &c.Session.EndReason,
	}, `
		SELECT id, group_id, accepts_config, attention, healthy, epoch, gateway_id, boot_id, transport,
		       peer, connected_at, last_seen_at, ended_at, end_reason
		FROM agents WHERE tenant_id = $1 AND id `+among, l.tenant, l.ids)
}

// drifts are the agents that run something else than they were given.
func (l *look) drifts(q *pipeline) {
	var agent fleet.AgentID
	q.ask(func() error {
		l.at(agent).Mismatch = true
		return nil
	}, []any{&agent}, `
		SELECT agent_id FROM agent_drift WHERE tenant_id = $1 AND agent_id `+among+` AND state = 'drifted'`, l.tenant, l.ids)
}

// deliveries are the summaries of before. Most of many are the same, and read once.
func (l *look) deliveries(q *pipeline) {
	var agent fleet.AgentID
	var document []byte
	read := map[string]fleet.Delivery{}
	q.ask(func() error {
		d, known := read[string(document)]
		if !known {
			if err := json.Unmarshal(document, &d); err != nil {
				return fmt.Errorf("read the delivery of agent %s: %w", agent, err)
			}
			read[string(document)] = d
		}
		l.at(agent).Delivery = d
		return nil
	}, []any{&agent, &document}, `
		SELECT agent_id, delivery FROM deliveries WHERE tenant_id = $1 AND agent_id `+among, l.tenant, l.ids)
}

// statuses are the agents' last words on an offer.
func (l *look) statuses(q *pipeline) {
	var agent fleet.AgentID
	var value []byte
	var said fleet.Stamp
	q.ask(func() error {
		c := l.at(agent)
		c.StatusStamp = said
		if err := json.Unmarshal(value, &c.Status); err != nil {
			return fmt.Errorf("read the status of agent %s: %w", agent, err)
		}
		return nil
	}, []any{&agent, &value, &said.Epoch, &said.Sequence}, `
		SELECT agent_id, value, epoch, sequence
		FROM agent_parts WHERE tenant_id = $1 AND agent_id `+among+` AND kind = $3`,
		l.tenant, l.ids, fleet.PartRemoteConfigStatus)
}

// ownAssignments are the agents' own, which come before their groups'.
func (l *look) ownAssignments(q *pipeline) {
	var agent fleet.AgentID
	var v versionKey
	q.ask(func() error {
		c := l.at(agent)
		c.Through, c.desired = column.TargetAgent, v
		return nil
	}, []any{&agent, &v.config, &v.version}, `
		SELECT target_id, config_id, version
		FROM assignments WHERE tenant_id = $1 AND target = 'agent' AND target_id `+among, l.tenant, l.ids)
}

func (l *look) groupAssignments(q *pipeline) {
	members := map[fleet.GroupID][]*circumstances{}
	for _, c := range l.of {
		if c.group != "" && c.Through == "" {
			members[c.group] = append(members[c.group], c)
		}
	}
	var group fleet.GroupID
	var v, settled versionKey
	var id fleet.RolloutID
	q.ask(func() error {
		for _, c := range members[group] {
			c.Through, c.desired, c.settled, c.rollout = column.TargetGroup, v, settled, id
		}
		return nil
	}, []any{&group, &v.config, &v.version, (*text)(&settled.config), &settled.version, (*text)(&id)}, `
		SELECT target_id, config_id, version, settled_config_id, coalesce(settled_version, 0), rollout_id
		FROM assignments WHERE tenant_id = $1 AND target = 'group' AND target_id `+among,
		l.tenant, ids(slices.Collect(maps.Keys(members)), itself))
}

// defaults are what agents got when they joined their groups; whatever else is assigned comes before it.
func (l *look) defaults(q *pipeline) {
	var agent fleet.AgentID
	var v versionKey
	q.ask(func() error {
		if c := l.at(agent); c.Through == "" {
			c.Through, c.desired = column.TargetDefault, v
		}
		return nil
	}, []any{&agent, &v.config, &v.version}, `
		SELECT target_id, config_id, version
		FROM assignments WHERE tenant_id = $1 AND target = 'default' AND target_id `+among, l.tenant, l.ids)
}

// waiting are the agents that wait to be let in to what their groups are assigned.
func (l *look) waiting(q *pipeline) {
	var agent fleet.AgentID
	var group fleet.GroupID
	q.ask(func() error {
		c := l.at(agent)
		c.at.Waits = c.group == group
		return nil
	}, []any{&agent, &group}, `
		SELECT agent_id, group_id FROM agents_waiting WHERE tenant_id = $1 AND agent_id `+among, l.tenant, l.ids)
}

// rolloutIDs are the rollouts that somebody's assignment is under: few.
func (l *look) rolloutIDs() []fleet.RolloutID {
	named := map[fleet.RolloutID]bool{}
	for _, c := range l.of {
		named[c.rollout] = true
	}
	delete(named, "")
	return slices.Collect(maps.Keys(named))
}

func (l *look) rollouts(q *pipeline) {
	named := l.rolloutIDs()
	if len(named) == 0 {
		return
	}
	agents := map[fleet.RolloutID][]*circumstances{}
	for _, c := range l.of {
		agents[c.rollout] = append(agents[c.rollout], c)
	}
	var id fleet.RolloutID
	var under fleet.Under
	q.ask(func() error {
		for _, c := range agents[id] {
			c.at.Under = under
		}
		under.Gates = fleet.Gates{}
		return nil
	}, []any{&id, &under.State, &under.Generation, &under.Gates}, `
		SELECT id, state, generation, definition->'gates' FROM rollouts WHERE tenant_id = $1 AND id `+among, l.tenant, ids(named, itself))
}

// members are the agents in the rollouts that their groups' assignments are under. What a rollback gives one is what it
// is assigned.
func (l *look) members(q *pipeline) {
	named := l.rolloutIDs()
	if len(named) == 0 {
		return
	}
	var m fleet.Member
	q.ask(func() error {
		c := l.at(m.Agent)
		if c.rollout != m.Rollout {
			return nil
		}
		seen := m
		c.at.Member = &seen
		if m.Target.Config != "" {
			c.desired = versionKey{config: m.Target.Config, version: m.Target.Version}
		}
		return nil
	}, memberInto(&m), `
		SELECT `+memberColumns+` FROM rollout_members m
		WHERE m.tenant_id = $1 AND m.agent_id `+among+` AND m.rollout_id = ANY((SELECT $3::uuid[])::uuid[])`, l.tenant, l.ids, ids(named, itself))
}

// hold completes the situations of agents to which assignments of groups, or defaults, apply.
func (l *look) hold() {
	for _, c := range l.of {
		if c.Through == column.TargetGroup || c.Through == column.TargetDefault {
			c.Situation = verdict.OfGroup(c.Situation, c.at)
		}
	}
}

func (l *look) grants(q *pipeline) {
	var agent fleet.AgentID
	var v versionKey
	var g fleet.Grant
	var undelivered fleet.DeliveryOutcome
	q.ask(func() error {
		c, seen := l.at(agent), g
		c.Grant, c.given, c.Undelivered = &seen, v, undelivered
		return nil
	}, []any{
		&agent, &v.config, &v.version, (*hash)(&v.offer), &g.State, &g.Reason, &g.Generation, (*instant)(&g.OpenedAt), &g.Seen.Epoch, &g.Seen.Sequence,
		(*instant)(&g.SentAt), (*instant)(&g.DeliveredAt), (*instant)(&g.ApplyingAt), (*instant)(&g.SettledAt), &g.Message, &undelivered,
		(*text)(&g.Rollout), &g.Wave,
	}, `
		SELECT agent_id, config_id, version, offer_hash, state, reason, generation, opened_at, seen_epoch, seen_sequence,
		       sent_at, delivered_at, applying_at, settled_at, message, undelivered, rollout_id, wave
		FROM grants WHERE tenant_id = $1 AND agent_id `+among, l.tenant, l.ids)
}

// lastGood are the versions that were applied last: for each agent a look at the index that is made for it. Their bodies
// are stored, as those of all versions.
func (l *look) lastGood(q *pipeline) {
	var agent fleet.AgentID
	var v versionKey
	q.ask(func() error {
		l.at(agent).good = v
		return nil
	}, []any{&agent, &v.config, &v.version, (*hash)(&v.offer)}, `
		SELECT a.id, good.config_id, good.version, good.offer_hash
		FROM unnest($2::uuid[]) AS a (id) CROSS JOIN LATERAL (
			SELECT t.config_id, t.version, t.offer_hash
			FROM attempts t
			WHERE t.tenant_id = $1 AND t.agent_id = a.id AND t.outcome = 'applied'
			ORDER BY t.last_at DESC, t.offer_hash LIMIT 1) AS good`, l.tenant, l.ids)
}

// versionKeys are the versions that somebody's circumstances name.
func (l *look) versionKeys() []versionKey {
	named := map[versionKey]bool{}
	for _, c := range l.of {
		named[c.desired], named[c.given], named[c.good], named[c.settled] = true, true, true, true
	}
	delete(named, versionKey{})
	return slices.Collect(maps.Keys(named))
}

// readVersions reads versions of a tenant, those that were offered as what they became for an agent with that in the
// place of their bytes.
func readVersions(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, keys []versionKey) (map[versionKey]*fleet.VersionRef, error) {
	refs, err := list(ctx, tx, scanRef, `
		SELECT `+versionRef+`
		FROM config_versions v JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		WHERE v.tenant_id = $1 AND v.config_id `+among+` AND v.version = ANY((SELECT $3::int[])::int[])`,
		tenant, ids(keys, func(k versionKey) fleet.ConfigID { return k.config }), array(keys, func(k versionKey) int { return k.version }))
	if err != nil {
		return nil, fail("read the versions", err)
	}
	written := make(map[versionKey]*fleet.VersionRef, len(refs))
	for i := range refs {
		written[versionKey{config: refs[i].Config, version: refs[i].Version}] = &refs[i]
	}
	versions := make(map[versionKey]*fleet.VersionRef, len(keys))
	var rendered []versionKey
	for _, key := range keys {
		v := written[versionKey{config: key.config, version: key.version}]
		if v != nil && !key.offer.IsZero() && key.offer != v.Offer {
			offered := *v
			offered.Offer, offered.Templated = key.offer, false
			v, rendered = &offered, append(rendered, key)
		}
		versions[key] = v
	}
	return versions, readRenderings(ctx, tx, tenant, rendered, versions)
}

// readRenderings completes versions by what they became.
func readRenderings(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, keys []versionKey, versions map[versionKey]*fleet.VersionRef) error {
	if len(keys) == 0 {
		return nil
	}
	var offer fleet.OfferHash
	var r fleet.Rendering
	became := map[fleet.OfferHash]fleet.Rendering{}
	err := pipelined(ctx, tx, "read the renderings", func(q *pipeline) {
		q.ask(func() error {
			became[offer] = r
			return nil
		}, []any{(*hash)(&offer), (*hash)(&r.Hash), &r.Size}, `
			SELECT offer_hash, body_hash, size FROM renderings WHERE tenant_id = $1 AND offer_hash = ANY((SELECT $2::bytea[])::bytea[])`,
			tenant, array(keys, func(k versionKey) []byte { return k.offer[:] }))
	})
	for _, key := range keys {
		versions[key].Hash, versions[key].Size = became[key.offer].Hash, became[key.offer].Size
	}
	return err
}

func (l *look) putVersions(versions map[versionKey]*fleet.VersionRef) {
	for _, c := range l.of {
		c.Assigned, c.LastGood, c.Settled = versions[c.desired], versions[c.good], versions[c.settled]
		if v := versions[c.given]; v != nil {
			c.Grant.Version = *v
		}
	}
}

// ledgers are the attempts that matter: of what is assigned, granted, reported and last good.
func (l *look) ledgers(q *pipeline) {
	offers := map[fleet.OfferHash]bool{}
	for _, c := range l.of {
		for _, offer := range verdict.OffersInQuestion(c.Situation) {
			offers[offer] = true
		}
	}
	var agent fleet.AgentID
	var a fleet.Attempt
	q.ask(func() error {
		if c := l.at(agent); slices.Contains(verdict.OffersInQuestion(c.Situation), a.Version.Offer) {
			c.Attempts[a.Version.Offer] = a
		}
		return nil
	}, append([]any{&agent}, attemptInto(&a)...), `
		SELECT t.agent_id, `+attemptColumns+`
		FROM attempts t `+offeredJoin+`
		WHERE t.tenant_id = $1 AND t.agent_id `+among+` AND t.offer_hash = ANY((SELECT $3::bytea[])::bytea[])`,
		l.tenant, l.ids, array(slices.Collect(maps.Keys(offers)), func(h fleet.OfferHash) []byte { return h[:] }))
}

// versionRef are the columns of a fleet.VersionRef, of a version v and its configuration c; refOf scans them.
const versionRef = `v.config_id, c.name, v.version, v.offer_hash, v.body_hash, v.size, v.content_type, v.templated`

func refOf(v *fleet.VersionRef) []any {
	return []any{&v.Config, &v.ConfigName, &v.Version, (*hash)(&v.Offer), (*hash)(&v.Hash), &v.Size, &v.Type, &v.Templated}
}

// attemptColumns are those of a fleet.Attempt, of a line t and what offeredJoin adds; attemptInto scans them.
const attemptColumns = `t.outcome, t.message, t.first_at, t.last_at, t.cleared_at, v.config_id, c.name, v.version,
		       t.offer_hash, coalesce(r.body_hash, v.body_hash), coalesce(r.size, v.size), v.content_type, false`

// offeredJoin adds to a line t the version v of configuration c that was offered and, if it is a template, what it became.
const offeredJoin = `JOIN config_versions v USING (tenant_id, config_id, version)
		JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		LEFT JOIN renderings r ON r.tenant_id = t.tenant_id AND r.offer_hash = t.offer_hash`

func attemptInto(a *fleet.Attempt) []any {
	return append([]any{&a.Outcome, &a.Message, (*instant)(&a.FirstAt), (*instant)(&a.LastAt), (*instant)(&a.ClearedAt)},
		refOf(&a.Version)...)
}

func scanRef(row pgx.Row) (v fleet.VersionRef, err error) {
	err = row.Scan(refOf(&v)...)
	return v, err
}

func scanAttempt(row pgx.Row) (a fleet.Attempt, err error) {
	err = row.Scan(attemptInto(&a)...)
	return a, err
}
