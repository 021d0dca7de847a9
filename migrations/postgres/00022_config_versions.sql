-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- What a version means beside what it is, where its bytes came from, and who wrote the revision that a draft has.

-- +goose Up

ALTER TABLE config_versions
    -- Of the normalised model; null for bytes that have none.
    ADD COLUMN semantic_hash bytea CHECK (length(semantic_hash) = 32),
    -- The version whose bytes were brought back; 0 for none.
    ADD COLUMN restored_from integer NOT NULL DEFAULT 0 CHECK (restored_from >= 0),
    -- The rules it breaks and was published all the same: ids, in order, a space between.
    ADD COLUMN waived        text NOT NULL DEFAULT '',
    ADD COLUMN changed_by    text NOT NULL DEFAULT '',
    ADD COLUMN changed_at    timestamptz;
-- The owner is bound by the policies too, and this is of all tenants.
ALTER TABLE config_versions NO FORCE ROW LEVEL SECURITY;
UPDATE config_versions SET changed_by = created_by, changed_at = created_at;
ALTER TABLE config_versions FORCE ROW LEVEL SECURITY;
ALTER TABLE config_versions ALTER COLUMN changed_at SET NOT NULL;
