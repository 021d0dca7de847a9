-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

-- SQLite adds no foreign key of two columns to a table that is there; agents are never deleted from theirs.
ALTER TABLE bootstrap_tokens ADD COLUMN for_agent_id TEXT CHECK (for_agent_id IS NULL OR group_id IS NULL AND pool_id IS NULL);
ALTER TABLE bootstrap_tokens ADD COLUMN replaces INTEGER NOT NULL DEFAULT 0 CHECK (for_agent_id IS NOT NULL OR NOT replaces);
CREATE INDEX bootstrap_tokens_for_agent ON bootstrap_tokens (tenant_id, for_agent_id) WHERE for_agent_id IS NOT NULL;
