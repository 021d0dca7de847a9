// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// Situations implements store.Work.
func (s *Store) Situations(
	ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID, rendered map[fleet.AgentID]fleet.VersionRef,
) ([]fleet.Situation, error) {
	situations := make([]fleet.Situation, len(agents))
	err := s.reading(ctx, tenant, func(tx *sql.Tx) error {
		for i, agent := range agents {
			situation := fleet.Situation{Tenant: tenant, Agent: agent}
			err := readSituation(ctx, tx, &situation, rendered)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			situations[i] = situation
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return situations, nil
}

func readSituation(ctx context.Context, tx *sql.Tx, to *fleet.Situation, rendered map[fleet.AgentID]fleet.VersionRef) error {
	group, err := readStanding(ctx, tx, to)
	if err != nil {
		return err
	}
	if err := readAssigned(ctx, tx, to, group); err != nil {
		return err
	}
	if err := readGrant(ctx, tx, to); err != nil {
		return err
	}
	ofGroup := to.Through == column.TargetGroup || to.Through == column.TargetDefault
	var at verdict.Standstill
	if ofGroup {
		if at, err = readStandstill(ctx, tx, to, group); err != nil {
			return err
		}
	}
	if v, is := rendered[to.Agent]; is {
		*to = verdict.Rendered(*to, v)
	}
	if ofGroup {
		*to = verdict.OfGroup(*to, at)
	}
	return readLedger(ctx, tx, to)
}

// readStanding reads what the agent's row and its last word on an offer say.
func readStanding(ctx context.Context, tx *sql.Tx, to *fleet.Situation) (group fleet.GroupID, err error) {
	var status []byte
	var state fleet.DeliveryState
	var boot int64
	at := &to.Session
	err = tx.QueryRowContext(ctx, `
		SELECT a.group_id, a.accepts_config, coalesce(d.state, 'none'), coalesce(d.delivery, '{}'), a.attention,
		       a.healthy, a.epoch, a.gateway_id, a.boot_id, a.transport, a.peer, a.connected_at, a.last_seen_at, a.ended_at, a.end_reason,
		       g.lease_until, coalesce(g.bus_lost, false), coalesce(dr.state = 'drifted', false),
		       p.value, coalesce(p.epoch, 0), coalesce(p.sequence, 0)
		FROM agents a
		LEFT JOIN gateways g ON g.id = a.gateway_id AND g.boot_id = a.boot_id
		LEFT JOIN agent_drift dr ON dr.tenant_id = a.tenant_id AND dr.agent_id = a.id
		LEFT JOIN deliveries d ON d.tenant_id = a.tenant_id AND d.agent_id = a.id
		LEFT JOIN agent_parts p ON p.tenant_id = a.tenant_id AND p.agent_id = a.id AND p.kind = ?3
		WHERE a.tenant_id = ?1 AND a.id = ?2`,
		to.Tenant, to.Agent, fleet.PartRemoteConfigStatus).Scan(
		(*text)(&group), &to.AcceptsConfig, &state, document(&to.Delivery), document(&to.Attention),
		&to.Healthy, &at.Epoch, &at.Gateway, &boot, &at.Transport, &at.Peer, (*instant)(&at.ConnectedAt), (*instant)(&at.LastSeenAt),
		(*instant)(&at.EndedAt), &at.EndReason, (*instant)(&at.GatewayLeaseUntil), &at.GatewayBusLost, &to.Mismatch,
		&status, &to.StatusStamp.Epoch, &to.StatusStamp.Sequence)
	if err != nil {
		return "", fail("read the agent", err)
	}
	to.Delivery.State, at.BootID = state, column.Unbits(boot)
	if status == nil {
		return group, nil
	}
	if err := json.Unmarshal(status, &to.Status); err != nil {
		return "", fmt.Errorf("read the status of agent %s: %w", to.Agent, err)
	}
	return group, nil
}

// readAssigned finds what the agent shall end up with: its own assignment, else its group's, else the default.
func readAssigned(ctx context.Context, tx *sql.Tx, to *fleet.Situation, group fleet.GroupID) error {
	var v fleet.VersionRef
	err := tx.QueryRowContext(ctx, `
		SELECT s.target, `+versionRef+`
		FROM assignments s JOIN config_versions v USING (tenant_id, config_id, version)
		JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		WHERE s.tenant_id = ?1 AND (s.target, s.target_id) IN (VALUES ('agent', ?2), ('group', ?3), ('default', ?2))
		ORDER BY CASE s.target WHEN 'agent' THEN 1 WHEN 'group' THEN 2 ELSE 3 END LIMIT 1`,
		to.Tenant, to.Agent, column.OrNull(group)).Scan(append([]any{&to.Through}, refOf(&v)...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	to.Assigned = &v
	return fail("read the assignment", err)
}

// readStandstill reads the place of an agent, to which its group's assignment or its default applies, with regard to the
// rollout of that. What a rollback gives it is what it is assigned.
func readStandstill(ctx context.Context, tx *sql.Tx, to *fleet.Situation, group fleet.GroupID) (at verdict.Standstill, err error) {
	err = tx.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM agents_waiting WHERE tenant_id = ?1 AND agent_id = ?2 AND group_id = ?3)`,
		to.Tenant, to.Agent, group).Scan(&at.Waits)
	if err != nil {
		return at, fail("read who waits", err)
	}
	if to.Through == column.TargetGroup {
		err = readUnder(ctx, tx, to, group, &at)
	}
	return at, err
}

// readUnder reads the rollout that the group's assignment is under, what stands of the agent there, and what was assigned
// before.
func readUnder(ctx context.Context, tx *sql.Tx, to *fleet.Situation, group fleet.GroupID, at *verdict.Standstill) error {
	var under fleet.RolloutID
	var definition fleet.RolloutDefinition
	var settled fleet.AssignedVersion
	err := tx.QueryRowContext(ctx, `
		SELECT s.rollout_id, coalesce(r.state, ''), coalesce(r.generation, 0), r.definition, s.settled_config_id, coalesce(s.settled_version, 0)
		FROM assignments s LEFT JOIN rollouts r ON r.tenant_id = s.tenant_id AND r.id = s.rollout_id
		WHERE s.tenant_id = ?1 AND s.target = 'group' AND s.target_id = ?2`, to.Tenant, group).Scan(
		(*text)(&under), &at.Under.State, &at.Under.Generation, document(&definition), (*text)(&settled.Config), &settled.Version)
	if err != nil {
		return fail("read the group's rollout", err)
	}
	at.Under.Gates = definition.Gates
	if to.Settled, err = versionNamed(ctx, tx, to.Tenant, settled); err != nil || under == "" {
		return err
	}
	m, err := one(ctx, tx, scanMember, `
		SELECT `+memberColumns+` FROM rollout_members m WHERE m.tenant_id = ?1 AND m.rollout_id = ?2 AND m.agent_id = ?3`, to.Tenant, under, to.Agent)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fail("read the agent's rollout", err)
	}
	at.Member = &m
	if m.Target.Config != "" {
		to.Assigned, err = versionNamed(ctx, tx, to.Tenant, m.Target)
	}
	return err
}

// versionNamed reads a version; nil for the zero one.
func versionNamed(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, named fleet.AssignedVersion) (*fleet.VersionRef, error) {
	if named.Config == "" {
		return nil, nil //nolint:nilnil // no version
	}
	var v fleet.VersionRef
	err := tx.QueryRowContext(ctx, `
		SELECT `+versionRef+` FROM config_versions v JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		WHERE v.tenant_id = ?1 AND v.config_id = ?2 AND v.version = ?3`, tenant, named.Config, named.Version).Scan(refOf(&v)...)
	return &v, fail("read a version", err)
}

// versionRef are the columns of a fleet.VersionRef, of a version v and its configuration c; refOf scans them.
const versionRef = `v.config_id, c.name, v.version, v.offer_hash, v.body_hash, v.size, v.content_type, v.templated`

func refOf(v *fleet.VersionRef) []any {
	return []any{&v.Config, &v.ConfigName, &v.Version, (*hash)(&v.Offer), (*hash)(&v.Hash), &v.Size, &v.Type, &v.Templated}
}

// offeredRef are those of a version as it was offered to an agent, by a row t and what offeredJoin adds.
const offeredRef = `v.config_id, c.name, v.version, t.offer_hash, coalesce(r.body_hash, v.body_hash), coalesce(r.size, v.size), v.content_type, 0`

// offeredJoin adds to a row t the version v of configuration c that was offered and, if it is a template, what it became.
const offeredJoin = `JOIN config_versions v USING (tenant_id, config_id, version)
		JOIN configs c ON c.tenant_id = v.tenant_id AND c.id = v.config_id
		LEFT JOIN renderings r ON r.tenant_id = t.tenant_id AND r.offer_hash = t.offer_hash`

func readGrant(ctx context.Context, tx *sql.Tx, to *fleet.Situation) error {
	var g fleet.Grant
	var undelivered fleet.DeliveryOutcome
	err := tx.QueryRowContext(ctx, `
		SELECT t.state, t.reason, t.generation, t.opened_at, t.seen_epoch, t.seen_sequence, t.sent_at, t.delivered_at,
		       t.applying_at, t.settled_at, t.message, t.undelivered, t.rollout_id, t.wave, `+offeredRef+`
		FROM grants t `+offeredJoin+`
		WHERE t.tenant_id = ?1 AND t.agent_id = ?2`,
		to.Tenant, to.Agent).Scan(append([]any{
		&g.State, &g.Reason, &g.Generation, (*instant)(&g.OpenedAt), &g.Seen.Epoch,
		&g.Seen.Sequence, (*instant)(&g.SentAt), (*instant)(&g.DeliveredAt), (*instant)(&g.ApplyingAt), (*instant)(&g.SettledAt),
		&g.Message, &undelivered, (*text)(&g.Rollout), &g.Wave,
	}, refOf(&g.Version)...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	to.Grant, to.Undelivered = &g, undelivered
	return fail("read the grant", err)
}

// readLedger reads the last good version and the attempts that matter: of what is assigned, granted and reported, and of
// the last good one.
func readLedger(ctx context.Context, tx *sql.Tx, to *fleet.Situation) error {
	good, err := list(ctx, tx, scanAttempt, `
		SELECT `+attemptColumns+`
		FROM attempts t `+offeredJoin+`
		JOIN bodies b ON b.tenant_id = v.tenant_id AND b.hash = v.body_hash
		WHERE t.tenant_id = ?1 AND t.agent_id = ?2 AND t.outcome = 'applied'
		ORDER BY t.last_at DESC, t.offer_hash LIMIT 1`, to.Tenant, to.Agent)
	if err != nil {
		return fail("read the last good version", err)
	}
	if len(good) > 0 {
		to.LastGood = &good[0].Version
	}
	offers := make([]any, 5) // the rest stays NULL and equals nothing
	for i, offer := range verdict.OffersInQuestion(*to) {
		offers[i] = offer[:]
	}
	lines, err := list(ctx, tx, scanAttempt, `
		SELECT `+attemptColumns+`
		FROM attempts t `+offeredJoin+`
		WHERE t.tenant_id = ?1 AND t.agent_id = ?2 AND t.offer_hash IN (?3, ?4, ?5, ?6, ?7)`, append([]any{to.Tenant, to.Agent}, offers...)...)
	to.Attempts = make(map[fleet.OfferHash]fleet.Attempt, len(lines))
	for _, a := range lines {
		to.Attempts[a.Version.Offer] = a
	}
	return fail("read the ledger", err)
}

// attemptColumns are those of a fleet.Attempt, of a line t and what offeredJoin adds; scanAttempt reads them.
const attemptColumns = `t.outcome, t.message, t.first_at, t.last_at, t.cleared_at, ` + offeredRef

func scanAttempt(row scanner) (a fleet.Attempt, err error) {
	err = row.Scan(append([]any{&a.Outcome, &a.Message, (*instant)(&a.FirstAt), (*instant)(&a.LastAt), (*instant)(&a.ClearedAt)},
		refOf(&a.Version)...)...)
	return a, err
}
