-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Tags are what is known of an agent without asking it: operators set them, or the token or pool it enrolled with did.
-- Labels are what it says of itself. Both are found by b-trees (see agent_labels).

-- +goose Up

CREATE TABLE agent_tags (
    tenant_id text NOT NULL,
    agent_id  uuid NOT NULL,
    key       text NOT NULL,
    value     text NOT NULL,
    -- Who set it: 'operator' or 'enrolment'.
    origin    text NOT NULL CHECK (origin IN ('operator', 'enrolment')),
    PRIMARY KEY (tenant_id, agent_id, key),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX agent_tags_search ON agent_tags (tenant_id, key, value, agent_id);
ALTER TABLE agent_tags ENABLE ROW LEVEL SECURITY;
ALTER TABLE agent_tags FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON agent_tags USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON agent_tags TO ampora_api, ampora_worker;
