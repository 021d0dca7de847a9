-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

ALTER TABLE config_versions ADD COLUMN semantic_hash BLOB CHECK (length(semantic_hash) = 32);
ALTER TABLE config_versions ADD COLUMN restored_from INTEGER NOT NULL DEFAULT 0 CHECK (restored_from >= 0);
ALTER TABLE config_versions ADD COLUMN waived TEXT NOT NULL DEFAULT '';
ALTER TABLE config_versions ADD COLUMN changed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE config_versions ADD COLUMN changed_at INTEGER NOT NULL DEFAULT 0;
UPDATE config_versions SET changed_by = created_by, changed_at = created_at;
