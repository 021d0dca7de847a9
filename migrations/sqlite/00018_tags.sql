-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE agent_tags (
    tenant_id TEXT NOT NULL,
    agent_id  TEXT NOT NULL,
    key       TEXT NOT NULL,
    value     TEXT NOT NULL,
    origin    TEXT NOT NULL CHECK (origin IN ('operator', 'enrolment')),
    PRIMARY KEY (tenant_id, agent_id, key),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) STRICT;
CREATE INDEX agent_tags_search ON agent_tags (tenant_id, key, value, agent_id);
