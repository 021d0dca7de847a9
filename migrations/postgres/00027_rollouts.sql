-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- A version comes to a group wave by wave. What the group shall end up with is its assignment, which says under which
-- rollout it is; who of its members may have it by now stands in the members of that rollout.

-- +goose Up

CREATE TABLE rollouts (
    tenant_id  text NOT NULL REFERENCES tenants,
    id         uuid NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('forward', 'catch_up', 'rollback')),
    -- The one that it undoes or completes.
    of_id      uuid,
    group_id   uuid NOT NULL,
    config_id  uuid NOT NULL,
    version    integer NOT NULL,
    definition jsonb NOT NULL,
    state      text NOT NULL CHECK (state IN ('pending', 'in_progress', 'paused', 'completed', 'aborted', 'rolling_back', 'rolled_back')),
    -- Raised by everything that closes grants: whatever acts on a grant checks it.
    generation bigint NOT NULL DEFAULT 1,
    -- Of the row.
    row_version    bigint NOT NULL DEFAULT 1,
    wave           integer NOT NULL DEFAULT 0,
    wave_opened_at timestamptz,
    filled_at      timestamptz,
    -- Nanoseconds.
    extended       bigint NOT NULL DEFAULT 0,
    accepted       jsonb NOT NULL DEFAULT '{}',
    reason         text NOT NULL DEFAULT '',
    wants_rollback boolean NOT NULL DEFAULT false,
    plan           jsonb NOT NULL,
    -- What the group was assigned before.
    former_config_id uuid,
    former_version   integer,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    started_by text NOT NULL DEFAULT '',
    started_at timestamptz,
    ended_at   timestamptz,
    -- When it is looked at without being asked.
    wake_at    timestamptz NOT NULL DEFAULT 'infinity',
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
) WITH (fillfactor = 50);
CREATE INDEX rollouts_due ON rollouts (wake_at) WHERE wake_at < 'infinity';
CREATE UNIQUE INDEX rollouts_active ON rollouts (tenant_id, group_id) WHERE state IN ('in_progress', 'paused');
CREATE INDEX rollouts_group ON rollouts (tenant_id, group_id, id);
CREATE INDEX rollouts_of ON rollouts (tenant_id, of_id) WHERE of_id IS NOT NULL;
CREATE INDEX rollouts_rollback ON rollouts (tenant_id, id) WHERE wants_rollback;

CREATE TABLE rollout_members (
    tenant_id  text NOT NULL,
    rollout_id uuid NOT NULL,
    agent_id   uuid NOT NULL,
    wave       integer NOT NULL,
    position   integer NOT NULL CHECK (position >= 0),
    state      text NOT NULL CHECK (state IN ('pending', 'admitted', 'pushed', 'applying', 'applied', 'failed', 'skipped', 'disconnected')),
    reason     text NOT NULL DEFAULT '',
    former_config_id uuid,
    former_version   integer,
    target_config_id uuid,
    target_version   integer,
    change     text NOT NULL,
    revision   bigint NOT NULL DEFAULT 1,
    admitted_at timestamptz,
    pushed_at   timestamptz,
    deadline_at timestamptz,
    settled_at  timestamptz,
    -- When time alone changes what is counted of it.
    look_at     timestamptz,
    gone          boolean NOT NULL DEFAULT false,
    unhealthy     boolean NOT NULL DEFAULT false,
    mismatch      boolean NOT NULL DEFAULT false,
    health_counts boolean NOT NULL DEFAULT false,
    config_counts boolean NOT NULL DEFAULT false,
    overdue       boolean NOT NULL DEFAULT false,
    -- Its rollout looks at it: what it says wakes the engine.
    watched       boolean NOT NULL DEFAULT false,
    disturbed     boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, rollout_id, agent_id),
    FOREIGN KEY (tenant_id, rollout_id) REFERENCES rollouts (tenant_id, id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) WITH (fillfactor = 60);
-- It holds all, but is for those only who ask for it by this condition. By statistics of before a rollout it is as good as
-- the primary key for who looks for a thousand agents: that would be to read all the members for each thousand of them.
CREATE INDEX rollout_members_position ON rollout_members (tenant_id, rollout_id, position) WHERE position >= 0;
CREATE INDEX rollout_members_pending ON rollout_members (tenant_id, rollout_id, wave, position) WHERE state = 'pending';
CREATE INDEX rollout_members_look ON rollout_members (tenant_id, rollout_id, look_at) WHERE look_at IS NOT NULL;
CREATE INDEX rollout_members_watched ON rollout_members (tenant_id, agent_id) WHERE watched;
CREATE INDEX rollout_members_disturbed ON rollout_members (tenant_id, agent_id) WHERE disturbed;

-- The sum of what the members of a wave count for; wave 0 are those that were skipped when it was planned.
CREATE TABLE rollout_waves (
    tenant_id  text NOT NULL,
    rollout_id uuid NOT NULL,
    wave       integer NOT NULL,
    opened_at  timestamptz,
    ended_at   timestamptz,
    agents     integer NOT NULL DEFAULT 0,
    skipped    integer NOT NULL DEFAULT 0,
    pending    integer NOT NULL DEFAULT 0,
    touched    integer NOT NULL DEFAULT 0,
    in_flight  integer NOT NULL DEFAULT 0,
    watched    integer NOT NULL DEFAULT 0,
    applied    integer NOT NULL DEFAULT 0,
    succeeded  integer NOT NULL DEFAULT 0,
    overdue    integer NOT NULL DEFAULT 0,
    failed     integer NOT NULL DEFAULT 0,
    gone       integer NOT NULL DEFAULT 0,
    mismatch   integer NOT NULL DEFAULT 0,
    unhealthy  integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, rollout_id, wave),
    FOREIGN KEY (tenant_id, rollout_id) REFERENCES rollouts (tenant_id, id)
) WITH (fillfactor = 30);

-- The rollout an assignment of a group is under, and what was assigned before: members that are held and have had nothing
-- get that.
ALTER TABLE assignments ADD COLUMN rollout_id uuid;
ALTER TABLE assignments ADD COLUMN settled_config_id uuid;
ALTER TABLE assignments ADD COLUMN settled_version integer;
ALTER TABLE assignments ADD FOREIGN KEY (tenant_id, rollout_id) REFERENCES rollouts (tenant_id, id);

-- The rollout and wave under which a grant was opened.
ALTER TABLE grants ADD COLUMN rollout_id uuid;
ALTER TABLE grants ADD COLUMN wave integer NOT NULL DEFAULT 0;
CREATE INDEX grants_rollout ON grants (tenant_id, rollout_id, agent_id) WHERE state = 'open' AND rollout_id IS NOT NULL;

-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['rollouts', 'rollout_members', 'rollout_waves'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant())', t);
    END LOOP;
END
$$;
-- +goose StatementEnd
-- What is due is found, and what is due to be sent is checked, over tenants.
CREATE POLICY queue ON rollouts FOR SELECT TO ampora_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON rollouts, rollout_waves TO ampora_api, ampora_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON rollout_members TO ampora_api, ampora_worker;

-- Sessions end over tenants, and the engine is woken for who is watched.
CREATE POLICY watching ON rollout_members FOR SELECT TO ampora_worker USING (watched);
-- Which tenants have agents that wait is found over tenants.
CREATE POLICY queue ON agents_waiting FOR SELECT TO ampora_worker USING (true);
GRANT SELECT ON agents_waiting TO ampora_worker;
