// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// writeReports writes what was judged of agents whose rows are locked: each table by one statement, in one round trip.
func writeReports(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, agents map[fleet.AgentID]*verdict.Agent, events []fleet.Event, at time.Time) error {
	judged := make([]*verdict.Agent, 0, len(agents))
	for _, id := range slices.Sorted(maps.Keys(agents)) {
		judged = append(judged, agents[id])
	}
	var batch pgx.Batch
	queueRows(&batch, tenant, which(judged, func(w verdict.Write) bool { return w.Row }))
	queueParts(&batch, tenant, judged)
	queueLabels(&batch, tenant, which(judged, func(w verdict.Write) bool { return w.Labels != nil }))
	queueDelivered(&batch, tenant, which(judged, func(w verdict.Write) bool { return w.Delivery != nil }))
	queueRequests(&batch, tenant, judged, at)
	queueDriftLooks(&batch, tenant, of(which(judged, func(w verdict.Write) bool { return w.Drift })), at.Add(fleet.DriftDelay))
	queueEvents(&batch, events)
	queueChanged(&batch, tenant, array(which(judged, func(w verdict.Write) bool { return w.Seen }), agentID))
	woken := map[fleet.AgentID]fleet.Traceparent{}
	for _, a := range which(judged, func(w verdict.Write) bool { return w.Wake }) {
		woken[a.ID] = a.Write.Trace
	}
	queueWake(&batch, tenant, at, woken)
	queueWakeWatched(&batch, tenant, at, of(which(judged, verdict.Write.Watched)))
	return fail("write the reports", tx.SendBatch(ctx, &batch).Close())
}

func which(all []*verdict.Agent, which func(verdict.Write) bool) (some []*verdict.Agent) {
	for _, a := range all {
		if which(a.Write) {
			some = append(some, a)
		}
	}
	return some
}

func of(judged []*verdict.Agent) []fleet.AgentID {
	list := make([]fleet.AgentID, len(judged))
	for i, a := range judged {
		list[i] = a.ID
	}
	return list
}

func agentID(a *verdict.Agent) fleet.AgentID { return a.ID }

// queueRows writes session fields and summaries; of a summary, NULL leaves what is there.
func queueRows(batch *pgx.Batch, tenant fleet.TenantID, rows []*verdict.Agent) {
	if len(rows) == 0 {
		return
	}
	batch.Queue(`
		UPDATE agents a SET last_sequence = r.last_sequence, state_known = r.state_known, last_seen_at = r.last_seen_at,
			ended_at = r.ended_at, end_reason = r.end_reason,
			service_name = coalesce(r.service_name, a.service_name), service_version = coalesce(r.service_version, a.service_version),
			host_name = coalesce(r.host_name, a.host_name), capabilities = coalesce(r.capabilities, a.capabilities),
			accepts_config = coalesce(r.accepts_config, a.accepts_config), healthy = coalesce(r.healthy, a.healthy),
			told_hour = r.told_hour, told = r.told, untold = r.untold
		FROM (SELECT unnest($2::uuid[]) AS id, unnest($3::bigint[]) AS last_sequence, unnest($4::boolean[]) AS state_known,
			unnest($5::timestamptz[]) AS last_seen_at, unnest($6::timestamptz[]) AS ended_at, unnest($7::text[]) AS end_reason,
			unnest($8::text[]) AS service_name, unnest($9::text[]) AS service_version, unnest($10::text[]) AS host_name,
			unnest($11::bigint[]) AS capabilities, unnest($12::boolean[]) AS accepts_config, unnest($13::boolean[]) AS healthy,
			unnest($14::timestamptz[]) AS told_hour, unnest($15::int[]) AS told, unnest($16::int[]) AS untold) AS r
		WHERE a.tenant_id = $1 AND a.id `+among+` AND a.id = r.id`,
		tenant, ids(rows, agentID),
		array(rows, func(a *verdict.Agent) int64 { return int64(a.LastSequence) }),
		array(rows, func(a *verdict.Agent) bool { return a.StateKnown }),
		moments(rows, func(a *verdict.Agent) time.Time { return a.LastSeenAt }),
		moments(rows, func(a *verdict.Agent) time.Time { return a.EndedAt }),
		array(rows, func(a *verdict.Agent) string { return a.EndReason }),
		array(rows, func(a *verdict.Agent) *string { return a.Write.Summary.ServiceName }),
		array(rows, func(a *verdict.Agent) *string { return a.Write.Summary.ServiceVersion }),
		array(rows, func(a *verdict.Agent) *string { return a.Write.Summary.HostName }),
		array(rows, func(a *verdict.Agent) any { return column.CapabilityBits(a.Write.Summary.Capabilities) }),
		array(rows, func(a *verdict.Agent) *bool { return a.Write.Summary.AcceptsConfig }),
		array(rows, func(a *verdict.Agent) *bool { return a.Write.Summary.Healthy }),
		moments(rows, func(a *verdict.Agent) time.Time { return a.Telling.Hour }),
		array(rows, func(a *verdict.Agent) int { return a.Telling.Told }),
		array(rows, func(a *verdict.Agent) int { return a.Telling.Untold }))
}

// said is a part of an agent's report.
type said struct {
	agent fleet.AgentID
	fleet.Part
}

// queueParts writes parts that are later than those on record.
func queueParts(batch *pgx.Batch, tenant fleet.TenantID, judged []*verdict.Agent) {
	var parts []said
	for _, a := range judged {
		for _, p := range a.Write.Parts {
			parts = append(parts, said{a.ID, p})
		}
	}
	if len(parts) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO agent_parts (tenant_id, agent_id, kind, epoch, sequence, at, value, raw, digest)
		SELECT $1, unnest($2::uuid[]), unnest($3::text[]), unnest($4::bigint[]), unnest($5::bigint[]), unnest($6::timestamptz[]),
			unnest($7::jsonb[]), unnest($8::bytea[]), unnest($9::text[])
		ON CONFLICT (tenant_id, agent_id, kind) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence,
			at = excluded.at, value = excluded.value, raw = excluded.raw, digest = excluded.digest
		WHERE (agent_parts.epoch, agent_parts.sequence) < (excluded.epoch, excluded.sequence)`,
		tenant, ids(parts, func(p said) fleet.AgentID { return p.agent }),
		array(parts, func(p said) string { return string(p.Kind) }),
		array(parts, func(p said) int64 { return int64(p.Stamp.Epoch) }),
		array(parts, func(p said) int64 { return int64(p.Stamp.Sequence) }),
		moments(parts, func(p said) time.Time { return p.At }),
		array(parts, func(p said) json.RawMessage { return p.Value }),
		array(parts, func(p said) []byte { return column.NotNull(p.Raw) }),
		array(parts, func(p said) string { return p.Digest }))
}

// label is a searchable label of an agent.
type label struct {
	agent      fleet.AgentID
	key, value string
}

// queueLabels replaces the agents' labels.
func queueLabels(batch *pgx.Batch, tenant fleet.TenantID, of []*verdict.Agent) {
	if len(of) == 0 {
		return
	}
	var labels []label
	for _, a := range of {
		for key, value := range a.Write.Labels {
			labels = append(labels, label{a.ID, key, value})
		}
	}
	agents := ids(labels, func(l label) fleet.AgentID { return l.agent })
	keys := array(labels, func(l label) string { return l.key })
	batch.Queue(`
		DELETE FROM agent_labels l WHERE l.tenant_id = $1 AND l.agent_id `+among+` AND NOT EXISTS (
			SELECT FROM unnest($3::uuid[], $4::text[]) AS k (agent_id, key) WHERE k.agent_id = l.agent_id AND k.key = l.key)`,
		tenant, ids(of, agentID), agents, keys)
	batch.Queue(`
		INSERT INTO agent_labels (tenant_id, agent_id, key, value)
		SELECT $1, unnest($2::uuid[]), unnest($3::text[]), unnest($4::text[])
		ON CONFLICT (tenant_id, agent_id, key) DO UPDATE SET value = excluded.value WHERE agent_labels.value <> excluded.value`,
		tenant, agents, keys, array(labels, func(l label) string { return l.value }))
}

// queueDelivered notes the gateways' words on open grants. The sender writes grants without locking agents; so it, too, is
// met in the order of the ids.
func queueDelivered(batch *pgx.Batch, tenant fleet.TenantID, of []*verdict.Agent) {
	if len(of) == 0 {
		return
	}
	batch.Queue(`SELECT FROM grants WHERE tenant_id = $1 AND agent_id `+among+` ORDER BY agent_id FOR NO KEY UPDATE`, tenant, ids(of, agentID))
	batch.Queue(`
		UPDATE grants g SET delivered_at = coalesce(d.delivered_at, g.delivered_at), undelivered = d.undelivered
		FROM (SELECT unnest($2::uuid[]) AS agent_id, unnest($3::bigint[]) AS generation, unnest($4::timestamptz[]) AS delivered_at,
			unnest($5::text[]) AS undelivered) AS d
		WHERE g.tenant_id = $1 AND g.agent_id `+among+` AND g.agent_id = d.agent_id AND g.generation = d.generation AND g.state = 'open'`,
		tenant, ids(of, agentID),
		array(of, func(a *verdict.Agent) int64 { return int64(a.Write.Delivery.Generation) }),
		moments(of, func(a *verdict.Agent) time.Time {
			if a.Write.Delivery.Outcome != fleet.Delivered {
				return time.Time{}
			}
			return a.Write.Delivery.At
		}),
		array(of, func(a *verdict.Agent) string {
			if a.Write.Delivery.Outcome == fleet.Delivered {
				return ""
			}
			return string(a.Write.Delivery.Outcome)
		}))
}

// queueRequests ends requests for full state that were answered and renewals that something became of, makes those that are asked for, and parks what is for
// agents whose sessions ended, so that the sender passes over those who are away: a claim lets it fall due. What was to
// close the session is done.
func queueRequests(batch *pgx.Batch, tenant fleet.TenantID, judged []*verdict.Agent, at time.Time) {
	concerned := which(judged, func(w verdict.Write) bool { return w.Answered || w.FullState || w.Park || len(w.Upkeep) > 0 })
	if len(concerned) == 0 {
		return
	}
	batch.Queue(`SELECT FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` ORDER BY agent_id, kind FOR UPDATE`, tenant, ids(concerned, agentID))
	if answered := which(judged, func(w verdict.Write) bool { return w.Answered }); len(answered) > 0 {
		// What an agent says before it is asked is no answer.
		batch.Queue(`DELETE FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` AND kind = 'full_state' AND tries > 0`,
			tenant, ids(answered, agentID))
	}
	if asked := which(judged, func(w verdict.Write) bool { return w.FullState }); len(asked) > 0 {
		batch.Queue(`
			INSERT INTO outbox (tenant_id, agent_id, kind, due_at) SELECT $1, id, 'full_state', $3 FROM unnest($2::uuid[]) AS id ORDER BY id`+onDispatch,
			tenant, ids(asked, agentID), moment(at))
	}
	for _, a := range concerned {
		queueUpkeepOutcomes(batch, tenant, a)
	}
	if ended := which(judged, func(w verdict.Write) bool { return w.Park }); len(ended) > 0 {
		batch.Queue(`DELETE FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` AND kind IN ('close', 'restart')`, tenant, ids(ended, agentID))
		batch.Queue(`UPDATE outbox SET due_at = 'infinity' WHERE tenant_id = $1 AND agent_id `+among, tenant, ids(ended, agentID))
	}
}
