// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/verdict"
	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Claim implements store.Sessions. The rules are verdict's, on rows locked until the commit: of the gateways, whose new
// registration waits for it while a renewal does not, and of the agents, in the order of their ids. It runs as the worker,
// which may lock gateways.
func (s *Store) Claim(ctx context.Context, claims []fleet.Claim) ([]fleet.ClaimResult, error) {
	results := make([]fleet.ClaimResult, len(claims))
	err := s.bulkAsWorker(ctx, func(tx pgx.Tx) error {
		gateways, err := lockGateways(ctx, tx, claims)
		if err != nil {
			return err
		}
		for _, part := range verdict.ClaimsByTenant(claims) {
			judged, err := claimInTenant(ctx, tx, part, gateways)
			if err != nil {
				return err
			}
			for i, place := range part.Places {
				results[place] = judged[i]
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return results, nil
}

func claimInTenant(ctx context.Context, tx pgx.Tx, claims verdict.Claims, gateways map[fleet.GatewayID]fleet.Gateway) ([]fleet.ClaimResult, error) {
	if err := enter(ctx, tx, claims.Tenant); err != nil {
		return nil, err
	}
	roll, err := callRoll(ctx, tx, claims, gateways)
	if err != nil {
		return nil, err
	}
	judged := roll.Judge(claims.List, func() fleet.AgentID { return fleet.AgentID(identity.NewAgentID()) })
	return judged.Results, writeJudged(ctx, tx, claims.Tenant, judged)
}

// lockGateways makes sure that the claiming gateways have their leases.
func lockGateways(ctx context.Context, tx pgx.Tx, claims []fleet.Claim) (map[fleet.GatewayID]fleet.Gateway, error) {
	named := map[fleet.GatewayID]bool{}
	for _, c := range claims {
		named[c.Gateway] = true
	}
	scan := func(row pgx.Row) (g fleet.Gateway, err error) {
		var boot int64
		err = row.Scan(&g.ID, &boot, (*instant)(&g.LeaseUntil))
		g.BootID = column.Unbits(boot)
		return g, err
	}
	locked, err := list(ctx, tx, scan, `
		SELECT id, boot_id, lease_until FROM gateways WHERE id = ANY($1) AND revoked_at IS NULL ORDER BY id FOR KEY SHARE`,
		slices.Collect(maps.Keys(named)))
	if err != nil {
		return nil, fail("read the gateways' leases", err)
	}
	gateways := make(map[fleet.GatewayID]fleet.Gateway, len(locked))
	for _, g := range locked {
		gateways[g.ID] = g
	}
	for _, c := range claims {
		if g := gateways[c.Gateway]; g.BootID != c.BootID || !g.LeaseUntil.After(c.At) {
			return nil, fmt.Errorf("claim at gateway %s: %w", c.Gateway, store.ErrLeaseLost)
		}
	}
	return gateways, nil
}

// callRoll reads what is on record about the claims and locks the agents they may change. Who a uid belongs to never
// changes, so it may be read before; that one belongs to nobody is found out when it is bound.
func callRoll(ctx context.Context, tx pgx.Tx, claims verdict.Claims, gateways map[fleet.GatewayID]fleet.Gateway) (*verdict.Roll, error) {
	roll := &verdict.Roll{
		Certificates: map[fleet.Serial]*fleet.Certificate{}, Seats: map[fleet.AgentID]*verdict.Seat{},
		Owners: map[fleet.InstanceUID]*verdict.Seat{}, Children: map[fleet.AgentID]int{}, Gateways: gateways,
	}
	owners, err := readCredentials(ctx, tx, claims, roll)
	if err != nil {
		return nil, err
	}
	certified := roll.Certified(claims.List)
	if err := readParents(ctx, tx, claims.Tenant, owners); err != nil {
		return nil, err
	}
	mine := slices.Clone(certified)
	for _, owner := range owners {
		if _, found := slices.BinarySearch(certified, owner.Parent); found {
			mine = append(mine, owner.Agent)
		}
	}
	if err := lockSeats(ctx, tx, claims.Tenant, mine, roll); err != nil {
		return nil, err
	}
	for uid, owner := range owners {
		roll.Owners[uid] = owner // a stranger, whose row is not locked: nothing of it is written
		if seat := roll.Seats[owner.Agent]; seat != nil {
			roll.Owners[uid] = seat
		}
	}
	if err := readGiven(ctx, tx, claims.Tenant, roll.Showing(claims.List), roll); err != nil {
		return nil, err
	}
	return roll, countChildren(ctx, tx, claims.Tenant, roll)
}

// readCredentials reads certificates, and the agents that uids are bound to.
func readCredentials(ctx context.Context, tx pgx.Tx, claims verdict.Claims, to *verdict.Roll) (map[fleet.InstanceUID]*verdict.Seat, error) {
	owners := map[fleet.InstanceUID]*verdict.Seat{}
	var c fleet.Certificate
	var uid fleet.InstanceUID
	var agent fleet.AgentID
	err := pipelined(ctx, tx, "read certificates and uids", func(q *pipeline) {
		q.ask(func() error {
			known := c
			to.Certificates[c.Serial] = &known
			return nil
		}, []any{&c.Serial, &c.Agent, &c.Fingerprint, (*instant)(&c.RevokedAt), &c.KeyRetired}, `
			SELECT serial, agent_id, fingerprint, revoked_at, `+keyRetired+` FROM certificates WHERE tenant_id = $1 AND serial = ANY($2)`,
			claims.Tenant, texts(claims.Serials))
		q.ask(func() error {
			owners[uid] = &verdict.Seat{Agent: agent}
			return nil
		}, []any{(*[16]byte)(&uid), &agent}, `
			SELECT instance_uid, agent_id FROM agent_uids WHERE tenant_id = $1 AND instance_uid `+among,
			claims.Tenant, array(claims.UIDs, func(u fleet.InstanceUID) [16]byte { return u }))
	})
	return owners, err
}

// readParents reads who speaks for the owners of uids; that never changes.
func readParents(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, owners map[fleet.InstanceUID]*verdict.Seat) error {
	of := map[fleet.AgentID]fleet.AgentID{}
	for _, owner := range owners {
		of[owner.Agent] = ""
	}
	var agent, parent fleet.AgentID
	err := pipelined(ctx, tx, "read the owners of uids", func(q *pipeline) {
		q.ask(func() error {
			of[agent] = parent
			return nil
		}, []any{&agent, &parent}, `
			SELECT id, parent_id FROM agents WHERE tenant_id = $1 AND id `+among+` AND parent_id IS NOT NULL`,
			tenant, ids(slices.Collect(maps.Keys(of)), itself))
	})
	for _, owner := range owners {
		owner.Parent = of[owner.Agent]
	}
	return err
}

// lockSeats locks agents in the order of their ids, as everybody does, and reads, once the locks are held, how long somebody
// serves their sessions.
func lockSeats(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, agents []fleet.AgentID, to *verdict.Roll) error {
	scan := func(row pgx.Row) (id fleet.AgentID, err error) {
		var at verdict.Seat
		var boot int64
		err = row.Scan(&at.Agent, &at.Method, (*text)(&at.Parent), &at.MaxChildren, (*[16]byte)(&at.UID),
			(*instant)(&at.QuarantinedAt), &at.Takeovers, &at.Attention, &at.Epoch, &at.Gateway, &boot, &at.Transport,
			&at.LastSequence, &at.StateKnown, (*instant)(&at.FirstSeenAt), &at.Serial, &at.Open,
			(*instant)(&at.Telling.Hour), &at.Telling.Told, &at.Telling.Untold)
		at.BootID = column.Unbits(boot)
		to.Seats[at.Agent] = &at
		return at.Agent, err
	}
	_, err := list(ctx, tx, scan, `
		SELECT id, method, parent_id, max_children, coalesce(instance_uid, '00000000-0000-0000-0000-000000000000'),
		       quarantined_at, takeovers, attention, epoch, gateway_id, boot_id, transport,
		       last_sequence, state_known, first_seen_at, serial, epoch > 0 AND ended_at IS NULL, told_hour, told, untold
		FROM agents WHERE tenant_id = $1 AND id `+among+` ORDER BY id FOR NO KEY UPDATE`, tenant, ids(agents, itself))
	if err != nil {
		return fail("lock the agents", err)
	}
	return readLocked(ctx, tx, tenant, to)
}

// readLocked reads what may have changed until the locks were held: certificates that were revoked meanwhile, and the
// leases of whoever serves the seats' sessions, several gateways if the agent polls. Gateways are few.
func readLocked(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, to *verdict.Roll) error {
	leases := map[verdict.Server]time.Time{}
	served := func(seat *verdict.Seat, by verdict.Server) {
		if until := leases[by]; until.After(seat.LeaseUntil) {
			seat.LeaseUntil = until
		}
	}
	var polling []fleet.AgentID
	for id, seat := range to.Seats {
		if seat.Open && seat.Transport == fleet.TransportHTTP {
			polling = append(polling, id)
		}
	}
	var agent fleet.AgentID
	var by verdict.Server
	var boot int64
	var until, revoked time.Time
	var serial fleet.Serial
	err := pipelined(ctx, tx, "read who serves the agents", func(q *pipeline) {
		q.ask(func() error {
			to.Certificates[serial].RevokedAt = revoked
			return nil
		}, []any{&serial, (*instant)(&revoked)}, `
			SELECT serial, revoked_at FROM certificates WHERE tenant_id = $1 AND serial = ANY($2) AND revoked_at IS NOT NULL`,
			tenant, texts(slices.Collect(maps.Keys(to.Certificates))))
		q.ask(func() error {
			leases[verdict.Server{Gateway: by.Gateway, BootID: column.Unbits(boot)}] = until
			return nil
		}, []any{&by.Gateway, &boot, (*instant)(&until)}, `SELECT id, boot_id, lease_until FROM gateways`)
		if len(polling) > 0 {
			q.ask(func() error {
				served(to.Seats[agent], verdict.Server{Gateway: by.Gateway, BootID: column.Unbits(boot)})
				return nil
			}, []any{&agent, &by.Gateway, &boot}, `
				SELECT agent_id, gateway_id, boot_id FROM seats WHERE tenant_id = $1 AND agent_id `+among, tenant, ids(polling, itself))
		}
	})
	for _, seat := range to.Seats {
		served(seat, verdict.Server{Gateway: seat.Gateway, BootID: seat.BootID})
	}
	return err
}

// countChildren counts the agents that those who may speak for others speak for. Their locks keep it so.
func countChildren(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, of *verdict.Roll) error {
	var parents []fleet.AgentID
	for id, seat := range of.Seats {
		if seat.MaxChildren > 0 {
			parents = append(parents, id)
		}
	}
	if len(parents) == 0 {
		return nil
	}
	var parent fleet.AgentID
	var n int
	return pipelined(ctx, tx, "count the children", func(q *pipeline) {
		q.ask(func() error {
			of.Children[parent] = n
			return nil
		}, []any{&parent, &n}, `
			SELECT parent_id, count(*) FROM agents WHERE tenant_id = $1 AND parent_id `+among+` GROUP BY parent_id`,
			tenant, ids(parents, itself))
	})
}

// writeJudged writes what was judged, each table by one statement, in one round trip.
func writeJudged(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, j verdict.Judged) error {
	var batch pgx.Batch
	queueBorn(&batch, j.Born)
	queueChanged(&batch, tenant, array(j.Born, func(a fleet.Agent) fleet.AgentID { return a.ID }))
	queueBound(&batch, tenant, j.Bound)
	queueSeated(&batch, tenant, j.Seated)
	queueShared(&batch, tenant, j.Left, j.Shared)
	queueSeen(&batch, tenant, j.Seen)
	queueShown(&batch, tenant, j.Shown)
	queueUnparked(&batch, tenant, j.Seated)
	for _, q := range j.Quarantined {
		queueQuarantined(&batch, tenant, q)
	}
	queueWoken(&batch, tenant, j.Seated)
	queueEvents(&batch, j.Events)
	if err := queueAudit(&batch, j.Entries); err != nil {
		return err
	}
	queueRefusals(&batch, j.Refusals)
	return fail("write the sessions", tx.SendBatch(ctx, &batch).Close())
}

// queueBorn records agents that others speak for.
func queueBorn(batch *pgx.Batch, born []fleet.Agent) {
	for _, child := range born { // few, and once in their lives
		batch.Queue(`
			INSERT INTO agents (tenant_id, id, partition, enrolled_at, method, parent_id) VALUES ($1, $2, $3, $4, $5, $6)`,
			child.Tenant, child.ID, bus.PartitionOf(identity.AgentID(child.ID)), moment(child.EnrolledAt), child.Method, child.Parent)
	}
}

// queueBound makes uids their agents', for good. One that another transaction bound meanwhile is waited for, and then all
// is judged again; the order of the uids keeps two from waiting for each other.
func queueBound(batch *pgx.Batch, tenant fleet.TenantID, bound []verdict.Binding) {
	if len(bound) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO agent_uids (tenant_id, instance_uid, agent_id, bound_at)
		SELECT $1, * FROM unnest($2::uuid[], $3::uuid[], $4::timestamptz[]) AS b (uid, agent_id, at) ORDER BY uid
		ON CONFLICT (tenant_id, instance_uid) DO NOTHING`,
		tenant, array(bound, func(b verdict.Binding) [16]byte { return b.Claim.UID }),
		ids(bound, func(b verdict.Binding) fleet.AgentID { return b.Agent }),
		moments(bound, func(b verdict.Binding) time.Time { return b.Claim.At })).Exec(func(done pgconn.CommandTag) error {
		if int(done.RowsAffected()) < len(bound) {
			return fmt.Errorf("bind uids: %w", errLost)
		}
		return nil
	})
}

func seatedID(s verdict.Seated) fleet.AgentID { return s.Agent }
func claimedAt(s verdict.Seated) time.Time    { return s.Claim.At }

// queueSeated gives agents their sessions.
func queueSeated(batch *pgx.Batch, tenant fleet.TenantID, seated []verdict.Seated) {
	if len(seated) == 0 {
		return
	}
	batch.Queue(`
		UPDATE agents a SET epoch = s.epoch, gateway_id = s.gateway_id, boot_id = s.boot_id, transport = s.transport, peer = s.peer,
			serial = s.serial, connected_at = s.at, last_seen_at = s.at, ended_at = NULL, end_reason = '', last_sequence = 0,
			instance_uid = s.uid, state_known = s.state_known, former_epoch = s.former_epoch, former_gateway_id = s.former_gateway_id,
			former_boot_id = s.former_boot_id, former_sequence = s.former_sequence,
			told_hour = s.told_hour, told = s.told, untold = s.untold
		FROM (SELECT unnest($2::uuid[]) AS id, unnest($3::bigint[]) AS epoch, unnest($4::text[]) AS gateway_id, unnest($5::bigint[]) AS boot_id,
			unnest($6::text[]) AS transport, unnest($7::text[]) AS peer, unnest($8::text[]) AS serial, unnest($9::timestamptz[]) AS at,
			unnest($10::uuid[]) AS uid, unnest($11::boolean[]) AS state_known, unnest($12::bigint[]) AS former_epoch,
			unnest($13::text[]) AS former_gateway_id, unnest($14::bigint[]) AS former_boot_id, unnest($15::bigint[]) AS former_sequence,
			unnest($16::timestamptz[]) AS told_hour, unnest($17::int[]) AS told, unnest($18::int[]) AS untold) AS s
		WHERE a.tenant_id = $1 AND a.id `+among+` AND a.id = s.id`,
		tenant, ids(seated, seatedID),
		array(seated, func(s verdict.Seated) int64 { return int64(s.Epoch) }),
		array(seated, func(s verdict.Seated) string { return string(s.Claim.Gateway) }),
		array(seated, func(s verdict.Seated) int64 { return column.Bits(s.Claim.BootID) }),
		array(seated, func(s verdict.Seated) string { return string(s.Claim.Transport) }),
		array(seated, func(s verdict.Seated) string { return s.Claim.Peer }),
		array(seated, func(s verdict.Seated) string { return string(s.Claim.Serial) }),
		moments(seated, claimedAt),
		array(seated, func(s verdict.Seated) [16]byte { return s.UID }),
		array(seated, func(s verdict.Seated) bool { return s.StateKnown }),
		array(seated, func(s verdict.Seated) int64 { return int64(s.Former.Epoch) }),
		array(seated, func(s verdict.Seated) string { return string(s.Former.Gateway) }),
		array(seated, func(s verdict.Seated) int64 { return column.Bits(s.Former.BootID) }),
		array(seated, func(s verdict.Seated) int64 { return int64(s.Former.Sequence) }),
		moments(seated, func(s verdict.Seated) time.Time { return s.Telling.Hour }),
		array(seated, func(s verdict.Seated) int { return s.Telling.Told }),
		array(seated, func(s verdict.Seated) int { return s.Telling.Untold }))
	for _, s := range seated {
		if len(s.Takeovers) > 0 { // few
			batch.Queue(`UPDATE agents SET takeovers = $3 WHERE tenant_id = $1 AND id = $2`, tenant, s.Agent, column.NotNull(s.Takeovers))
		}
	}
}

// queueShared writes which gateways share the sessions of agents that poll: of those that left their former session, only
// who came to share the new one.
func queueShared(batch *pgx.Batch, tenant fleet.TenantID, left []fleet.AgentID, shared []verdict.Seated) {
	if len(left) > 0 {
		batch.Queue(`DELETE FROM seats WHERE tenant_id = $1 AND agent_id `+among, tenant, ids(left, itself))
	}
	if len(shared) > 0 {
		batch.Queue(`
			INSERT INTO seats (tenant_id, agent_id, gateway_id, boot_id)
			SELECT $1, unnest($2::uuid[]), unnest($3::text[]), unnest($4::bigint[])
			ON CONFLICT (tenant_id, agent_id, gateway_id) DO UPDATE SET boot_id = excluded.boot_id`,
			tenant, ids(shared, seatedID),
			array(shared, func(s verdict.Seated) string { return string(s.Claim.Gateway) }),
			array(shared, func(s verdict.Seated) int64 { return column.Bits(s.Claim.BootID) }))
	}
}

// queueSeen notes the first use of certificates.
func queueSeen(batch *pgx.Batch, tenant fleet.TenantID, seen []verdict.Seated) {
	if len(seen) == 0 {
		return
	}
	batch.Queue(`
		UPDATE agents a SET first_seen_at = s.at FROM unnest($2::uuid[], $3::timestamptz[]) AS s (id, at)
		WHERE a.tenant_id = $1 AND a.id `+among+` AND a.id = s.id AND a.first_seen_at IS NULL`,
		tenant, ids(seen, seatedID), moments(seen, claimedAt))
}

// queueUnparked lets what is to be sent to agents fall due. What was to close their former sessions is done.
func queueUnparked(batch *pgx.Batch, tenant fleet.TenantID, seated []verdict.Seated) {
	if len(seated) == 0 {
		return
	}
	agents := ids(seated, seatedID)
	batch.Queue(`
		SELECT FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` ORDER BY agent_id, kind FOR UPDATE`, tenant, agents)
	batch.Queue(`DELETE FROM outbox WHERE tenant_id = $1 AND agent_id `+among+` AND kind IN ('close', 'restart')`, tenant, agents)
	batch.Queue(`
		UPDATE outbox o SET due_at = least(o.due_at, s.at), tries = 0 FROM unnest($2::uuid[], $3::timestamptz[]) AS s (id, at)
		WHERE o.tenant_id = $1 AND o.agent_id `+among+` AND o.agent_id = s.id`, tenant, agents, moments(seated, claimedAt))
}

// queueQuarantined refuses an agent from now on and closes the session that is open.
func queueQuarantined(batch *pgx.Batch, tenant fleet.TenantID, q verdict.Quarantined) {
	batch.Queue(`UPDATE agents SET quarantined_at = $3, takeovers = $4, attention = $5 WHERE tenant_id = $1 AND id = $2`,
		tenant, q.Agent, moment(q.QuarantinedAt), q.Takeovers, q.Attention)
	batch.Queue(`
		INSERT INTO outbox (tenant_id, agent_id, kind, reason, due_at) VALUES ($1, $2, $3, $4, $5)`+onDispatch,
		tenant, q.Agent, fleet.DispatchClose, fleet.RefusedQuarantined, moment(q.Claim.At))
}

// queueWoken wakes the engine for agents that got a session.
func queueWoken(batch *pgx.Batch, tenant fleet.TenantID, seated []verdict.Seated) {
	if len(seated) == 0 {
		return
	}
	batch.Queue(`
		INSERT INTO work (tenant_id, agent_id, wake_at)
		SELECT $1, id, at FROM unnest($2::uuid[], $3::timestamptz[]) AS s (id, at) ORDER BY id`+onWake,
		tenant, ids(seated, seatedID), moments(seated, claimedAt))
}
