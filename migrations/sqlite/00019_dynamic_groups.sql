-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

ALTER TABLE groups ADD COLUMN selector TEXT NOT NULL DEFAULT '';
ALTER TABLE groups ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
-- SQLite adds no foreign key of two columns to a table that is there; configurations are never deleted from theirs.
ALTER TABLE groups ADD COLUMN default_config TEXT;
ALTER TABLE groups ADD COLUMN default_version INTEGER NOT NULL DEFAULT 0 CHECK (default_version >= 0);
ALTER TABLE groups ADD COLUMN default_on_claims INTEGER NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN failing INTEGER NOT NULL DEFAULT 0;
ALTER TABLE groups ADD COLUMN failing_since INTEGER;
ALTER TABLE groups ADD COLUMN failure TEXT NOT NULL DEFAULT '';
CREATE INDEX groups_dynamic ON groups (tenant_id) WHERE selector <> '' AND deleted_at IS NULL;

-- A check is changed by copying the table.
CREATE TABLE assignments_next (
    tenant_id  TEXT NOT NULL,
    target     TEXT NOT NULL CHECK (target IN ('agent', 'group', 'default')),
    target_id  TEXT NOT NULL,
    config_id  TEXT NOT NULL,
    version    INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, target, target_id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
) STRICT;
INSERT INTO assignments_next (tenant_id, target, target_id, config_id, version, generation, created_by, created_at)
SELECT tenant_id, target, target_id, config_id, version, generation, created_by, created_at FROM assignments;
DROP TABLE assignments;
ALTER TABLE assignments_next RENAME TO assignments;
CREATE INDEX assignments_version ON assignments (tenant_id, config_id, version);

ALTER TABLE bootstrap_tokens ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';
ALTER TABLE token_pools ADD COLUMN tags TEXT NOT NULL DEFAULT '{}';

CREATE TABLE groupings (
    tenant_id  TEXT NOT NULL,
    generation INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id)
) STRICT;
CREATE INDEX groupings_due ON groupings (due_at);

CREATE TABLE agents_changed (
    tenant_id TEXT NOT NULL,
    agent_id  TEXT NOT NULL,
    version   INTEGER NOT NULL DEFAULT (abs(random())),
    PRIMARY KEY (tenant_id, agent_id)
) STRICT;

CREATE TABLE agents_waiting (
    tenant_id TEXT NOT NULL,
    agent_id  TEXT NOT NULL,
    group_id  TEXT NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, agent_id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id)
) STRICT;
CREATE INDEX agents_waiting_group ON agents_waiting (tenant_id, group_id, agent_id);
