// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/control/internal/store/column"
	"gitlab.com/ampora/ampora/control/internal/store/keyset"
	"gitlab.com/ampora/ampora/control/internal/store/trail"
)

// tagsOfAgent are the tags of agent a, as one object; NULL if it has none.
const tagsOfAgent = `(SELECT json_object_agg(t.key, json_build_object('value', t.value, 'origin', t.origin))
			FROM agent_tags t WHERE t.tenant_id = a.tenant_id AND t.agent_id = a.id)`

// selectAgent reads agents a with group, and with the lease of the gateway boot that holds the session.
const selectAgent = `
		SELECT a.tenant_id, a.id, a.enrolled_at, a.method, a.first_seen_at, a.parent_id, a.max_children,
		       a.group_id, coalesce(gr.name, ''), coalesce(a.instance_uid, '00000000-0000-0000-0000-000000000000'),
		       a.quarantined_at, a.service_name, a.service_version, a.host_name, a.capabilities,
		       coalesce(a.accepts_config, false), a.healthy, a.epoch, a.gateway_id, a.boot_id, a.transport, a.peer,
		       a.connected_at, a.last_seen_at, a.ended_at, a.end_reason, g.lease_until, coalesce(g.bus_lost, false), a.serial,
		       coalesce(d.state, 'none'), coalesce(d.delivery, '{}'), a.attention, ` + tagsOfAgent + `
		FROM agents a
		LEFT JOIN deliveries d ON d.tenant_id = a.tenant_id AND d.agent_id = a.id
		LEFT JOIN groups gr ON gr.tenant_id = a.tenant_id AND gr.id = a.group_id
		LEFT JOIN gateways g ON g.id = a.gateway_id AND g.boot_id = a.boot_id
		WHERE a.tenant_id = $1`

func scanAgent(row pgx.Row) (a fleet.Agent, err error) {
	var capabilities, boot int64
	var state fleet.DeliveryState
	s := &a.Session
	err = row.Scan(&a.Tenant, &a.ID, (*instant)(&a.EnrolledAt), &a.Method, (*instant)(&a.FirstSeenAt), (*text)(&a.Parent), &a.MaxChildren,
		(*text)(&a.Group), &a.GroupName, (*[16]byte)(&a.InstanceUID),
		(*instant)(&a.QuarantinedAt), &a.ServiceName, &a.ServiceVersion, &a.HostName, &capabilities,
		&a.AcceptsConfig, &a.Healthy, &s.Epoch, &s.Gateway, &boot, &s.Transport, &s.Peer,
		(*instant)(&s.ConnectedAt), (*instant)(&s.LastSeenAt), (*instant)(&s.EndedAt), &s.EndReason, (*instant)(&s.GatewayLeaseUntil), &s.GatewayBusLost, &a.Serial,
		&state, &a.Delivery, &a.Attention, &a.Tags)
	a.Capabilities, s.BootID, a.Delivery.State = fleet.Capabilities(column.Unbits(capabilities)), column.Unbits(boot), state
	return a, err
}

// Agent implements store.Fleet.
func (s *Store) Agent(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (a fleet.Agent, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		a, err = agent(ctx, tx, tenant, id)
		return err
	})
	return a, err
}

func agent(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, id fleet.AgentID) (fleet.Agent, error) {
	a, err := one(ctx, tx, scanAgent, selectAgent+` AND a.id = $2`, tenant, id)
	return a, fail("read the agent", err)
}

// Agents implements store.Fleet. Who it is is found first, and then all that is known of these.
func (s *Store) Agents(ctx context.Context, tenant fleet.TenantID, f fleet.AgentFilter, now time.Time, page fleet.Page) (agents []fleet.Agent, next string, err error) {
	query, args := matching(tenant, f, now, fleet.AgentID(page.After), keyset.Limit(page))
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		found, err := list(ctx, tx, scanAgentID, query, args...)
		if err == nil {
			agents, err = agentsOf(ctx, tx, tenant, found)
		}
		return fail("list agents", err)
	})
	agents, next = keyset.Cut(agents, page, func(a fleet.Agent) string { return string(a.ID) })
	return agents, next, err
}

// CountAgents implements store.Fleet.
func (s *Store) CountAgents(ctx context.Context, tenant fleet.TenantID, f fleet.AgentFilter, now time.Time, most int) (n int, err error) {
	query, args := matching(tenant, f, now, "", most)
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		err = tx.QueryRow(ctx, "SELECT count(*) FROM ("+query+") AS matching", args...).Scan(&n)
		return fail("count agents", err)
	})
	return n, err
}

// agentsOf are agents, by id.
func agentsOf(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, page []fleet.AgentID) ([]fleet.Agent, error) {
	return list(ctx, tx, scanAgent, selectAgent+` AND a.id `+among+` ORDER BY a.id`, tenant, ids(page, itself))
}

// matching is the query for the ids of those that a filter selects, ascending, after one of them and at most so many.
func matching(tenant fleet.TenantID, f fleet.AgentFilter, now time.Time, after fleet.AgentID, most int) (query string, args []any) {
	where := conditions{args: []any{tenant}}
	where.filter(f, now)
	if after != "" {
		where.and("a.id > %s", after)
	}
	from := " FROM agents a" + where.from.String()
	limit := where.number(" ORDER BY a.id LIMIT %s", most)
	return "SELECT a.id" + from + " WHERE a.tenant_id = $1" + where.sql.String() + limit, where.args
}

// conditions grows a query by what a filter asks, so that each is planned for what it is.
type conditions struct {
	from  strings.Builder // what is joined to agents a
	joins int
	sql   strings.Builder
	args  []any
}

func (c *conditions) and(condition string, args ...any) {
	c.sql.WriteString(" AND " + c.number(condition, args...))
}

// number puts the arguments' places where the %s are.
func (c *conditions) number(sql string, args ...any) string {
	places := make([]any, len(args))
	for i, arg := range args {
		c.args = append(c.args, arg)
		places[i] = fmt.Sprintf("$%d", len(c.args))
	}
	return fmt.Sprintf(sql, places...)
}

func (c *conditions) filter(f fleet.AgentFilter, now time.Time) {
	c.place(f, now)
	c.name(f)
	c.state(f)
	c.enrolment(f)
	c.carry("agent_labels", f.Labels)
	c.carry("agent_tags", f.Tags)
}

// place is where agents are: groups and sessions.
func (c *conditions) place(f fleet.AgentFilter, now time.Time) {
	if f.Group != "" {
		c.and("a.group_id = %s", f.Group)
	}
	if f.NoGroup {
		c.and("a.group_id IS NULL")
	}
	if f.Gateway != "" {
		c.and("a.gateway_id = %s", f.Gateway)
	}
	c.presence(f.Presence, now)
}

// name is what agents call themselves.
func (c *conditions) name(f fleet.AgentFilter) {
	if f.NamePrefix != "" {
		c.and("(" + c.beginning("a.host_name", f.NamePrefix) + " OR " + c.beginning("a.service_name", f.NamePrefix) + ")")
	}
	for _, word := range f.Words {
		c.word(word)
	}
	if f.HostPrefix != "" {
		c.and(c.beginning("a.host_name", f.HostPrefix))
	}
	if f.Service != "" {
		c.and("a.service_name = %s", f.Service)
	}
	if f.Version != "" {
		c.and("a.service_version = %s", f.Version)
	}
}

// word wants agents of which one of the names begins with the word.
func (c *conditions) word(word string) {
	names := []string{c.beginning("a.host_name", word), c.beginning("a.service_name", word)}
	if first, last, ok := fleet.IDRange(word); ok {
		names = append(names, c.number("a.id BETWEEN %s AND %s", first, last))
	}
	c.and("(" + strings.Join(names, " OR ") + ")")
}

// beginning is what begins with a prefix, in bytes. The operators are leakproof, and so may use an index behind the
// policy; the last character of Unicode ends the range.
func (c *conditions) beginning(column, prefix string) string {
	return c.number(column+" ~>=~ %s AND "+column+" ~<~ %s", prefix, prefix+"\U0010FFFF")
}

// state is how agents are, what they can do and what they run.
func (c *conditions) state(f fleet.AgentFilter) {
	if f.Healthy {
		c.and("a.healthy = true")
	}
	if f.Unhealthy {
		c.and("a.healthy = false")
	}
	if f.Attention || f.AttentionReason != "" {
		c.and("a.attention <> '[]'")
	}
	if f.AttentionReason != "" {
		c.and("a.attention @> jsonb_build_array(jsonb_build_object('reason', %s::text))", f.AttentionReason)
	}
	if bits := column.Bits(uint64(f.Capabilities)); bits != 0 {
		c.and("a.capabilities & %s = %s", bits, bits)
	}
	c.delivery(f)
	c.drift(f.Drift)
}

// drift is the verdict on what agents run; one that was never compared is unknown.
func (c *conditions) drift(state fleet.DriftState) {
	const verdict = "EXISTS (SELECT FROM agent_drift dr WHERE dr.tenant_id = a.tenant_id AND dr.agent_id = a.id AND dr.state %s %%s)"
	switch state {
	case "":
	case fleet.DriftUnknown:
		c.and("NOT "+fmt.Sprintf(verdict, "<>"), state)
	default:
		c.and(fmt.Sprintf(verdict, "="), state)
	}
}

// delivery is what agents shall run, and how far that is. An agent for which nothing was ever decided has no row.
func (c *conditions) delivery(f fleet.AgentFilter) {
	switch f.DeliveryState {
	case "":
	case fleet.DeliveryNone:
		c.and("NOT EXISTS (SELECT FROM deliveries d WHERE d.tenant_id = a.tenant_id AND d.agent_id = a.id AND d.state <> 'none')")
	default:
		c.join("deliveries", "j.state = %s", f.DeliveryState)
	}
	switch {
	case f.Config == "":
	case f.ConfigVersion == 0:
		c.join("deliveries", "j.config_id = %s", f.Config)
	default:
		c.join("deliveries", "j.config_id = %s AND j.version = %s", f.Config, f.ConfigVersion)
	}
}

// enrolment is how agents came to be, and until when they may.
func (c *conditions) enrolment(f fleet.AgentFilter) {
	if f.Method != "" {
		c.and("a.method = %s", f.Method)
	}
	if !f.EnrolledAfter.IsZero() {
		c.and("a.enrolled_at >= %s", moment(f.EnrolledAfter))
	}
	if !f.EnrolledBefore.IsZero() {
		c.and("a.enrolled_at < %s", moment(f.EnrolledBefore))
	}
	if !f.ExpiresBefore.IsZero() {
		c.join("certificates", "j.serial = a.serial AND j.not_after < %s", moment(f.ExpiresBefore))
	}
}

// carry wants agents that have these keys and values in a table of such.
func (c *conditions) carry(table string, values map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(values)) {
		c.join(table, "j.key = %s AND j.value = %s", key, values[key])
	}
}

// join wants a row j of a table, of which there is one for the agent at most. It is joined: its index on what is asked
// for may lead, and gives the agents in the order of their ids.
func (c *conditions) join(table, condition string, args ...any) {
	c.joins++
	row := fmt.Sprintf("j%d", c.joins)
	on := strings.ReplaceAll("j.tenant_id = a.tenant_id AND j.agent_id = a.id AND "+condition, "j.", row+".")
	c.from.WriteString(" JOIN " + table + " " + row + " ON " + c.number(on, args...))
}

// heard is of whom the gateway has its lease and its bus.
const heard = "(a.gateway_id, a.boot_id) IN (SELECT id, boot_id FROM gateways WHERE lease_until > %s AND NOT bus_lost)"

// presence is fleet.Session.Presence as a condition.
func (c *conditions) presence(p fleet.Presence, now time.Time) {
	since := moment(now.Add(-fleet.MoveGrace)) // whose session ended later, for a move, may be on the way
	switch p {
	case fleet.PresenceOffline:
		c.and("(a.epoch = 0 OR a.ended_at IS NOT NULL)") // as agents_away says
		c.and("(a.epoch = 0 OR a.ended_at <= %s OR a.end_reason <> %s)", since, fleet.EndDrained)
	case fleet.PresenceOnline:
		c.and("a.epoch > 0 AND a.ended_at IS NULL AND "+heard, moment(now))
	case fleet.PresenceUnknown:
		c.and(`a.epoch > 0 AND (a.ended_at IS NULL AND NOT `+heard+`
			OR a.ended_at > %s AND a.end_reason = %s)`, moment(now), since, fleet.EndDrained)
	}
}

// Parts implements store.Fleet.
func (s *Store) Parts(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (map[fleet.PartKind]fleet.Part, error) {
	parts := map[fleet.PartKind]fleet.Part{}
	err := s.reading(ctx, tenant, func(tx pgx.Tx) error {
		said, err := list(ctx, tx, scanPart, `
			SELECT kind, epoch, sequence, at, value, raw, digest FROM agent_parts WHERE tenant_id = $1 AND agent_id = $2`,
			tenant, id)
		for _, p := range said {
			parts[p.Kind] = p
		}
		return fail("read the parts", err)
	})
	return parts, err
}

func scanPart(row pgx.Row) (p fleet.Part, err error) {
	err = row.Scan(&p.Kind, &p.Stamp.Epoch, &p.Stamp.Sequence, (*instant)(&p.At), (*[]byte)(&p.Value), &p.Raw, &p.Digest)
	return p, err
}

// Attempts implements store.Fleet.
func (s *Store) Attempts(ctx context.Context, tenant fleet.TenantID, id fleet.AgentID) (lines []fleet.Attempt, err error) {
	err = s.reading(ctx, tenant, func(tx pgx.Tx) error {
		lines, err = list(ctx, tx, scanAttempt, `
			SELECT `+attemptColumns+`
			FROM attempts t `+offeredJoin+`
			WHERE t.tenant_id = $1 AND t.agent_id = $2 ORDER BY t.last_at DESC, t.offer_hash LIMIT 100`, tenant, id)
		return fail("read the ledger", err)
	})
	return lines, err
}

// ClearAttempts implements store.Fleet.
func (s *Store) ClearAttempts(ctx context.Context, by fleet.By, id fleet.AgentID) (cleared int, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		if err := lockAgent(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, `
			UPDATE attempts SET cleared_at = $3
			WHERE tenant_id = $1 AND agent_id = $2 AND outcome IN ('failed', 'rolled_back') AND cleared_at IS NULL`,
			by.Tenant, id, moment(by.At))
		if err != nil {
			return fail("clear the ledger", err)
		}
		cleared = int(done.RowsAffected())
		if err := wakeBy(ctx, tx, by, id); err != nil {
			return err
		}
		return appendAudit(ctx, tx, by, trail.ConfigRetried(id, cleared))
	})
	return cleared, err
}

func lockAgent(ctx context.Context, tx pgx.Tx, tenant fleet.TenantID, id fleet.AgentID) error {
	locked, err := tx.Exec(ctx, `SELECT FROM agents WHERE tenant_id = $1 AND id = $2 FOR NO KEY UPDATE`, tenant, id)
	if err == nil && locked.RowsAffected() == 0 {
		return fmt.Errorf("agent %s: %w", id, store.ErrNotFound)
	}
	return fail("lock the agent", err)
}

// AllowChildren implements store.Fleet.
func (s *Store) AllowChildren(ctx context.Context, by fleet.By, id fleet.AgentID, n int) (a fleet.Agent, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		if err := lockAgent(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		if a, err = agent(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		if a.Parent != "" {
			return fmt.Errorf("agent %s is a child: %w", id, store.ErrState)
		}
		if _, err := tx.Exec(ctx, `UPDATE agents SET max_children = $3 WHERE tenant_id = $1 AND id = $2`, by.Tenant, id, n); err != nil {
			return fail("allow children", err)
		}
		before := a.MaxChildren
		a.MaxChildren = n
		return appendAudit(ctx, tx, by, trail.ChildrenAllowed(id, before, n))
	})
	if err != nil {
		return fleet.Agent{}, err
	}
	return a, nil
}

// ReleaseQuarantine implements store.Fleet.
func (s *Store) ReleaseQuarantine(ctx context.Context, by fleet.By, id fleet.AgentID) (a fleet.Agent, err error) {
	err = s.inTenant(ctx, by.Tenant, func(tx pgx.Tx) error {
		if err := lockAgent(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		if a, err = agent(ctx, tx, by.Tenant, id); err != nil {
			return err
		}
		since := a.QuarantinedAt
		if since.IsZero() {
			return fmt.Errorf("agent %s is not quarantined: %w", id, store.ErrState)
		}
		a.QuarantinedAt, a.Attention = time.Time{}, fleet.WithoutAttention(a.Attention, fleet.AttentionQuarantined)
		if _, err := tx.Exec(ctx, `
			UPDATE agents SET quarantined_at = NULL, takeovers = '{}', attention = $3 WHERE tenant_id = $1 AND id = $2`,
			by.Tenant, id, a.Attention); err != nil {
			return fail("release the agent", err)
		}
		return appendAudit(ctx, tx, by, trail.QuarantineReleased(id, since))
	})
	if err != nil {
		return fleet.Agent{}, err
	}
	return a, nil
}
