-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE rollouts (
    tenant_id  TEXT NOT NULL REFERENCES tenants,
    id         TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('forward', 'catch_up', 'rollback')),
    of_id      TEXT,
    group_id   TEXT NOT NULL,
    config_id  TEXT NOT NULL,
    version    INTEGER NOT NULL,
    definition TEXT NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'in_progress', 'paused', 'completed', 'aborted', 'rolling_back', 'rolled_back')),
    generation     INTEGER NOT NULL DEFAULT 1,
    row_version    INTEGER NOT NULL DEFAULT 1,
    wave           INTEGER NOT NULL DEFAULT 0,
    wave_opened_at INTEGER,
    filled_at      INTEGER,
    -- Nanoseconds.
    extended       INTEGER NOT NULL DEFAULT 0,
    accepted       TEXT NOT NULL DEFAULT '{}',
    reason         TEXT NOT NULL DEFAULT '',
    wants_rollback INTEGER NOT NULL DEFAULT 0,
    plan           TEXT NOT NULL,
    former_config_id TEXT,
    former_version   INTEGER,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    started_by TEXT NOT NULL DEFAULT '',
    started_at INTEGER,
    ended_at   INTEGER,
    -- Never, if it is looked at when asked only.
    wake_at    INTEGER NOT NULL DEFAULT 9223372036854775807,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
) STRICT;
CREATE INDEX rollouts_due ON rollouts (wake_at) WHERE wake_at < 9223372036854775807;
CREATE UNIQUE INDEX rollouts_active ON rollouts (tenant_id, group_id) WHERE state IN ('in_progress', 'paused');
CREATE INDEX rollouts_group ON rollouts (tenant_id, group_id, id);
CREATE INDEX rollouts_of ON rollouts (tenant_id, of_id) WHERE of_id IS NOT NULL;
CREATE INDEX rollouts_rollback ON rollouts (tenant_id, id) WHERE wants_rollback;

CREATE TABLE rollout_members (
    tenant_id  TEXT NOT NULL,
    rollout_id TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    wave       INTEGER NOT NULL,
    position   INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('pending', 'admitted', 'pushed', 'applying', 'applied', 'failed', 'skipped', 'disconnected')),
    reason     TEXT NOT NULL DEFAULT '',
    former_config_id TEXT,
    former_version   INTEGER,
    target_config_id TEXT,
    target_version   INTEGER,
    change     TEXT NOT NULL,
    revision   INTEGER NOT NULL DEFAULT 1,
    admitted_at INTEGER,
    pushed_at   INTEGER,
    deadline_at INTEGER,
    settled_at  INTEGER,
    look_at     INTEGER,
    gone          INTEGER NOT NULL DEFAULT 0,
    unhealthy     INTEGER NOT NULL DEFAULT 0,
    mismatch      INTEGER NOT NULL DEFAULT 0,
    health_counts INTEGER NOT NULL DEFAULT 0,
    config_counts INTEGER NOT NULL DEFAULT 0,
    overdue       INTEGER NOT NULL DEFAULT 0,
    watched       INTEGER NOT NULL DEFAULT 0,
    disturbed     INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, rollout_id, agent_id),
    FOREIGN KEY (tenant_id, rollout_id) REFERENCES rollouts (tenant_id, id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) STRICT;
CREATE INDEX rollout_members_position ON rollout_members (tenant_id, rollout_id, position);
CREATE INDEX rollout_members_pending ON rollout_members (tenant_id, rollout_id, wave, position) WHERE state = 'pending';
CREATE INDEX rollout_members_look ON rollout_members (tenant_id, rollout_id, look_at) WHERE look_at IS NOT NULL;
CREATE INDEX rollout_members_watched ON rollout_members (tenant_id, agent_id) WHERE watched;
CREATE INDEX rollout_members_disturbed ON rollout_members (tenant_id, agent_id) WHERE disturbed;

CREATE TABLE rollout_waves (
    tenant_id  TEXT NOT NULL,
    rollout_id TEXT NOT NULL,
    wave       INTEGER NOT NULL,
    opened_at  INTEGER,
    ended_at   INTEGER,
    agents     INTEGER NOT NULL DEFAULT 0,
    skipped    INTEGER NOT NULL DEFAULT 0,
    pending    INTEGER NOT NULL DEFAULT 0,
    touched    INTEGER NOT NULL DEFAULT 0,
    in_flight  INTEGER NOT NULL DEFAULT 0,
    watched    INTEGER NOT NULL DEFAULT 0,
    applied    INTEGER NOT NULL DEFAULT 0,
    succeeded  INTEGER NOT NULL DEFAULT 0,
    overdue    INTEGER NOT NULL DEFAULT 0,
    failed     INTEGER NOT NULL DEFAULT 0,
    gone       INTEGER NOT NULL DEFAULT 0,
    mismatch   INTEGER NOT NULL DEFAULT 0,
    unhealthy  INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, rollout_id, wave),
    FOREIGN KEY (tenant_id, rollout_id) REFERENCES rollouts (tenant_id, id)
) STRICT;

-- SQLite adds no foreign key of two columns to a table that is there; rollouts are never deleted from theirs.
ALTER TABLE assignments ADD COLUMN rollout_id TEXT;
ALTER TABLE assignments ADD COLUMN settled_config_id TEXT;
ALTER TABLE assignments ADD COLUMN settled_version INTEGER;

ALTER TABLE grants ADD COLUMN rollout_id TEXT;
ALTER TABLE grants ADD COLUMN wave INTEGER NOT NULL DEFAULT 0;
CREATE INDEX grants_rollout ON grants (tenant_id, rollout_id, agent_id) WHERE state = 'open' AND rollout_id IS NOT NULL;
