// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"maps"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
)

// writeReports writes what was judged.
func writeReports(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agents map[fleet.AgentID]*verdict.Agent, events []fleet.Event, at time.Time) error {
	woken := map[fleet.AgentID]fleet.Traceparent{}
	var seen, watched []fleet.AgentID
	for _, id := range slices.Sorted(maps.Keys(agents)) {
		if err := writeAgent(ctx, tx, tenant, agents[id], at); err != nil {
			return fail("write the reports", err)
		}
		if agents[id].Write.Wake {
			woken[id] = agents[id].Write.Trace
		}
		if agents[id].Write.Seen {
			seen = append(seen, id)
		}
		if agents[id].Write.Watched() {
			watched = append(watched, id)
		}
	}
	for _, e := range events {
		if err := appendEvent(ctx, tx, e); err != nil {
			return err
		}
	}
	if err := noteChanged(ctx, tx, tenant, seen); err != nil {
		return err
	}
	if err := wakeWatched(ctx, tx, tenant, at, watched...); err != nil {
		return err
	}
	return wake(ctx, tx, tenant, at, woken)
}

func writeAgent(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, a *verdict.Agent, at time.Time) error {
	var failed []error
	if a.Write.Row {
		failed = append(failed, writeRow(ctx, tx, tenant, a))
	}
	for _, kind := range slices.Sorted(maps.Keys(a.Write.Parts)) {
		failed = append(failed, writePart(ctx, tx, tenant, a.ID, a.Write.Parts[kind]))
	}
	if a.Write.Labels != nil {
		failed = append(failed, writeLabels(ctx, tx, tenant, a.ID, a.Write.Labels))
	}
	if d := a.Write.Delivery; d != nil {
		failed = append(failed, writeDelivery(ctx, tx, d))
	}
	for _, said := range a.Write.Upkeep {
		failed = append(failed, writeUpkeepOutcome(ctx, tx, tenant, a.ID, said))
	}
	if a.Write.Answered {
		_, err := tx.ExecContext(ctx, answered, tenant, a.ID)
		failed = append(failed, err)
	}
	if a.Write.FullState {
		_, err := tx.ExecContext(ctx, `INSERT INTO outbox (tenant_id, agent_id, kind, due_at) VALUES (?1, ?2, ?3, ?4)`+onDispatch,
			tenant, a.ID, fleet.DispatchFullState, moment(at))
		failed = append(failed, err)
	}
	if a.Write.Drift {
		failed = append(failed, driftLook(ctx, tx, tenant, a.ID, at.Add(fleet.DriftDelay)))
	}
	if a.Write.Park {
		failed = append(failed, park(ctx, tx, tenant, a.ID))
	}
	return errors.Join(failed...)
}

func writeRow(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, a *verdict.Agent) error {
	s := a.Write.Summary
	_, err := tx.ExecContext(ctx, `
		UPDATE agents SET last_sequence = ?3, state_known = ?4, last_seen_at = ?5, ended_at = ?6, end_reason = ?7,
			service_name = coalesce(?8, service_name), service_version = coalesce(?9, service_version),
			host_name = coalesce(?10, host_name), capabilities = coalesce(?11, capabilities),
			accepts_config = coalesce(?12, accepts_config), healthy = coalesce(?13, healthy), told_hour = ?14, told = ?15, untold = ?16
		WHERE tenant_id = ?1 AND id = ?2`,
		tenant, a.ID, a.LastSequence, a.StateKnown, moment(a.LastSeenAt), moment(a.EndedAt), a.EndReason,
		s.ServiceName, s.ServiceVersion, s.HostName, column.CapabilityBits(s.Capabilities), s.AcceptsConfig, s.Healthy,
		moment(a.Telling.Hour), a.Telling.Told, a.Telling.Untold)
	return err
}

func writePart(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agent fleet.AgentID, p fleet.Part) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO agent_parts (tenant_id, agent_id, kind, epoch, sequence, at, value, raw, digest)
		VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
		ON CONFLICT (tenant_id, agent_id, kind) DO UPDATE SET epoch = excluded.epoch, sequence = excluded.sequence,
			at = excluded.at, value = excluded.value, raw = excluded.raw, digest = excluded.digest
		WHERE (agent_parts.epoch, agent_parts.sequence) < (excluded.epoch, excluded.sequence)`,
		tenant, agent, p.Kind, p.Stamp.Epoch, p.Stamp.Sequence, moment(p.At), string(p.Value), column.NotNull(p.Raw), p.Digest)
	return err
}

func writeLabels(ctx context.Context, tx *sql.Tx, tenant fleet.TenantID, agent fleet.AgentID, labels map[string]string) error {
	_, err := tx.ExecContext(ctx, `
		DELETE FROM agent_labels WHERE tenant_id = ?1 AND agent_id = ?2 AND key NOT IN (SELECT key FROM json_each(?3))`,
		tenant, agent, asJSON(labels))
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO agent_labels (tenant_id, agent_id, key, value)
		SELECT ?1, ?2, l.key, l.value FROM json_each(?3) AS l WHERE true
		ON CONFLICT (tenant_id, agent_id, key) DO UPDATE SET value = excluded.value WHERE agent_labels.value <> excluded.value`,
		tenant, agent, asJSON(labels))
	return err
}

func writeDelivery(ctx context.Context, tx *sql.Tx, d *fleet.DeliveryReport) (err error) {
	if d.Outcome == fleet.Delivered {
		_, err = tx.ExecContext(ctx, `
			UPDATE grants SET delivered_at = ?4, undelivered = ''
			WHERE tenant_id = ?1 AND agent_id = ?2 AND generation = ?3 AND state = 'open'`,
			d.Tenant, d.Agent, d.Generation, moment(d.At))
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE grants SET undelivered = ?4
		WHERE tenant_id = ?1 AND agent_id = ?2 AND generation = ?3 AND state = 'open'`,
		d.Tenant, d.Agent, d.Generation, d.Outcome)
	return err
}
