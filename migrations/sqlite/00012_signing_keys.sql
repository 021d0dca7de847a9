-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE trust (
    one        INTEGER PRIMARY KEY DEFAULT 1 CHECK (one = 1),
    generation INTEGER NOT NULL
) STRICT;
INSERT INTO trust (generation) VALUES (0);

ALTER TABLE signing_keys ADD COLUMN generation INTEGER NOT NULL DEFAULT 0;
ALTER TABLE signing_keys ADD COLUMN trusted_at INTEGER;
ALTER TABLE signing_keys ADD COLUMN retired_at INTEGER;
ALTER TABLE gateways ADD COLUMN trust_generation INTEGER NOT NULL DEFAULT 0;

CREATE INDEX certificates_key ON certificates (tenant_id, key_id, serial) WHERE revoked_at IS NULL;
