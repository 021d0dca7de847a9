-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- How what an agent runs differs from what it shall run. A row is due when either may have changed; version grows with
-- every such change, so that a verdict on what was there before is not written over it.

-- +goose Up

CREATE TABLE agent_drift (
    tenant_id text NOT NULL,
    agent_id  uuid NOT NULL,
    version   bigint NOT NULL DEFAULT 1,
    look_at   timestamptz NOT NULL,
    state     text NOT NULL DEFAULT 'unknown' CHECK (state IN ('none', 'unknown', 'in_sync', 'drifted')),
    -- How many differences there are, and some of them in words.
    changes   integer NOT NULL DEFAULT 0,
    summary   jsonb NOT NULL DEFAULT '[]',
    since     timestamptz,
    looked_at timestamptz,
    PRIMARY KEY (tenant_id, agent_id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) WITH (fillfactor = 80);
CREATE INDEX agent_drift_due ON agent_drift (look_at);
CREATE INDEX agent_drift_state ON agent_drift (tenant_id, state, agent_id);
ALTER TABLE agent_drift ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent_drift FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON agent_drift USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
CREATE POLICY queue ON agent_drift FOR SELECT TO ampora_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON agent_drift TO ampora_api, ampora_worker;
