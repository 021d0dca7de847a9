-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- A configuration that goes to thousands of agents changes a few rows of each, and what a change costs is mostly indexes
-- and look-ups that it does not need.

-- +goose Up

-- The summary of an agent's delivery leaves the agent's row, where each of its changes touched nine indexes. The engine
-- alone writes it. No row: nothing was ever to be delivered.
CREATE TABLE deliveries (
    tenant_id text NOT NULL,
    agent_id  uuid NOT NULL,
    state     text NOT NULL,
    -- json, not jsonb: nobody looks into it here.
    delivery  json NOT NULL,
    PRIMARY KEY (tenant_id, agent_id)
);
CREATE INDEX deliveries_state ON deliveries (tenant_id, state, agent_id);

-- The owner is bound by the policies too, but for this one copy.
ALTER TABLE agents NO FORCE ROW LEVEL SECURITY;
INSERT INTO deliveries (tenant_id, agent_id, state, delivery)
SELECT tenant_id, id, delivery_state, delivery::json FROM agents WHERE delivery_state <> 'none';
ALTER TABLE agents FORCE ROW LEVEL SECURITY;
ALTER TABLE agents DROP COLUMN delivery_state, DROP COLUMN delivery;

ALTER TABLE deliveries ENABLE ROW LEVEL SECURITY;
ALTER TABLE deliveries FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON deliveries USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON deliveries TO ampora_api, ampora_worker;

-- What these made sure of is so without them: the engine writes grants and attempts of agents whose rows it has locked,
-- with versions that it has read, and neither agents nor versions are ever deleted. Looking each of them up again was
-- three quarters of what writing a grant cost.
ALTER TABLE grants DROP CONSTRAINT grants_tenant_id_agent_id_fkey, DROP CONSTRAINT grants_tenant_id_config_id_version_fkey;
ALTER TABLE attempts DROP CONSTRAINT attempts_tenant_id_agent_id_fkey, DROP CONSTRAINT attempts_tenant_id_config_id_version_fkey;
