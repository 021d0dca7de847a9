-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE INDEX agents_away ON agents (tenant_id, id) WHERE epoch = 0 OR ended_at IS NOT NULL;

ALTER TABLE deliveries ADD COLUMN config_id TEXT;
ALTER TABLE deliveries ADD COLUMN version INTEGER NOT NULL DEFAULT 0;
UPDATE deliveries SET config_id = nullif(delivery ->> '$.Desired.Config', ''), version = delivery ->> '$.Desired.Version'
WHERE delivery ->> '$.Desired.Version' IS NOT NULL;

ALTER TABLE agents ADD COLUMN told_hour INTEGER;
ALTER TABLE agents ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN untold INTEGER NOT NULL DEFAULT 0;

ALTER TABLE work ADD COLUMN push INTEGER NOT NULL DEFAULT 0;
