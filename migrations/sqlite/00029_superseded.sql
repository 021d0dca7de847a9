-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE attempts_next (
    tenant_id  TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    offer_hash BLOB NOT NULL,
    config_id  TEXT NOT NULL,
    version    INTEGER NOT NULL,
    outcome    TEXT NOT NULL CHECK (outcome IN ('offered', 'applying', 'applied', 'failed', 'rolled_back', 'superseded')),
    message    TEXT NOT NULL DEFAULT '',
    first_at   INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    cleared_at INTEGER,
    PRIMARY KEY (tenant_id, agent_id, offer_hash),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
) STRICT;
INSERT INTO attempts_next SELECT * FROM attempts;
DROP TABLE attempts;
ALTER TABLE attempts_next RENAME TO attempts;
CREATE INDEX attempts_last_good ON attempts (tenant_id, agent_id, last_at DESC) WHERE outcome = 'applied';
