-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE INDEX agents_away ON agents (tenant_id, id) WHERE epoch = 0 OR ended_at IS NOT NULL;

ALTER TABLE deliveries ADD COLUMN config_id TEXT;
ALTER TABLE deliveries ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET config_id = nullif(delivery ->> '$.Desired.Config', ''), version = delivery ->> '$.Desired.Version'
WHERE delivery ->> '$.Desired.Version' IS NOT NULL;

ALTER TABLE agents ADD COLUMN told_hour INTEGER;
ALTER TABLE agents ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN untold INTEGER NOT NULL DEFAULT 0;

ALTER TABLE work ADD COLUMN push INTEGER NOT NULL DEFAULT 0;

-- A check is changed by copying the table.
CREATE TABLE outbox_next (
    tenant_id   TEXT NOT NULL,
    agent_id    TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('config', 'full_state', 'close', 'renew', 'restart')),
    generation  INTEGER NOT NULL DEFAULT 0,
    reason      TEXT NOT NULL DEFAULT '',
    due_at      INTEGER NOT NULL,
    tries       INTEGER NOT NULL DEFAULT 0,
    traceparent TEXT NOT NULL DEFAULT '',
    expires_at  INTEGER,
    PRIMARY KEY (tenant_id, agent_id, kind)
) STRICT;
INSERT INTO outbox_next (tenant_id, agent_id, kind, generation, reason, due_at, tries, traceparent)
SELECT tenant_id, agent_id, kind, generation, reason, due_at, tries, traceparent FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_next RENAME TO outbox;
CREATE INDEX outbox_due ON outbox (due_at);
