-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why. The foreign keys of grants and attempts stay: they cost little here, and SQLite
-- drops none without copying the table.

-- +goose Up

CREATE TABLE deliveries (
    tenant_id TEXT NOT NULL,
    agent_id  TEXT NOT NULL,
    state     TEXT NOT NULL,
    delivery  TEXT NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
) STRICT;
CREATE INDEX deliveries_state ON deliveries (tenant_id, state, agent_id);

INSERT INTO deliveries (tenant_id, agent_id, state, delivery)
SELECT tenant_id, id, delivery_state, delivery FROM agents WHERE delivery_state <> 'none';
DROP INDEX agents_delivery;
ALTER TABLE agents DROP COLUMN delivery_state;
ALTER TABLE agents DROP COLUMN delivery;
