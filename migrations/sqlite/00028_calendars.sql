-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE schedules (
    tenant_id  TEXT NOT NULL REFERENCES tenants,
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('window', 'freeze')),
    -- A JSON array of ids. None: all groups.
    groups     TEXT NOT NULL DEFAULT '[]',
    cron       TEXT NOT NULL DEFAULT '',
    rule       TEXT NOT NULL DEFAULT '',
    from_at    INTEGER,
    until_at   INTEGER,
    -- Nanoseconds.
    length     INTEGER NOT NULL DEFAULT 0,
    zone       TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE budgets (
    tenant_id  TEXT NOT NULL REFERENCES tenants,
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    label      TEXT NOT NULL,
    most       INTEGER NOT NULL CHECK (most > 0),
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE disturbances (
    tenant_id TEXT NOT NULL,
    agent_id  TEXT NOT NULL,
    kind      TEXT NOT NULL,
    until_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, kind),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) STRICT;
CREATE INDEX disturbances_until ON disturbances (tenant_id, until_at);
