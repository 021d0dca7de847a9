-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

-- A check is changed by copying the table.
CREATE TABLE outbox_next (
    tenant_id   TEXT NOT NULL,
    agent_id    TEXT NOT NULL,
    kind        TEXT NOT NULL CHECK (kind IN ('config', 'full_state', 'close', 'renew')),
    generation  INTEGER NOT NULL DEFAULT 0,
    reason      TEXT NOT NULL DEFAULT '',
    due_at      INTEGER NOT NULL,
    tries       INTEGER NOT NULL DEFAULT 0,
    traceparent TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, agent_id, kind)
) STRICT;
INSERT INTO outbox_next (tenant_id, agent_id, kind, generation, reason, due_at, tries, traceparent)
SELECT tenant_id, agent_id, kind, generation, reason, due_at, tries, traceparent FROM outbox;
DROP TABLE outbox;
ALTER TABLE outbox_next RENAME TO outbox;
CREATE INDEX outbox_due ON outbox (due_at);

CREATE TABLE certificate_upkeep (
    tenant_id   TEXT NOT NULL,
    agent_id    TEXT NOT NULL,
    version     INTEGER NOT NULL DEFAULT 1,
    look_at     INTEGER NOT NULL,
    serial      TEXT NOT NULL,
    offers      INTEGER NOT NULL DEFAULT 0,
    generation  INTEGER NOT NULL DEFAULT 0,
    offered_at  INTEGER,
    offer_epoch INTEGER NOT NULL DEFAULT 0,
    given       TEXT NOT NULL DEFAULT '',
    offer_hash  BLOB NOT NULL DEFAULT x'',
    failure     TEXT NOT NULL DEFAULT '',
    told        INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, agent_id)
) STRICT;
CREATE INDEX certificate_upkeep_due ON certificate_upkeep (look_at);

INSERT INTO certificate_upkeep (tenant_id, agent_id, look_at, serial)
SELECT tenant_id, id, 0, serial FROM agents WHERE serial <> '' AND parent_id IS NULL;

CREATE INDEX agents_attention ON agents (tenant_id, id) WHERE attention <> '[]';
