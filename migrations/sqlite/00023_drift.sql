-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE agent_drift (
    tenant_id TEXT NOT NULL,
    agent_id  TEXT NOT NULL,
    version   INTEGER NOT NULL DEFAULT 1,
    look_at   INTEGER NOT NULL,
    state     TEXT NOT NULL DEFAULT 'unknown' CHECK (state IN ('none', 'unknown', 'in_sync', 'drifted')),
    changes   INTEGER NOT NULL DEFAULT 0,
    summary   TEXT NOT NULL DEFAULT '[]',
    since     INTEGER,
    looked_at INTEGER,
    PRIMARY KEY (tenant_id, agent_id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) STRICT;
CREATE INDEX agent_drift_due ON agent_drift (look_at);
CREATE INDEX agent_drift_state ON agent_drift (tenant_id, state, agent_id);
