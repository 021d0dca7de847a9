-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE token_pools (
    tenant_id      TEXT NOT NULL REFERENCES tenants (id),
    id             TEXT NOT NULL,
    name           TEXT NOT NULL,
    description    TEXT NOT NULL DEFAULT '',
    group_id       TEXT,
    ttl_seconds    INTEGER NOT NULL CHECK (ttl_seconds > 0),
    live_limit     INTEGER NOT NULL CHECK (live_limit >= 0),
    per_hour       INTEGER NOT NULL CHECK (per_hour > 0),
    burst          INTEGER NOT NULL CHECK (burst > 0),
    hash           BLOB NOT NULL CHECK (length(hash) = 32),
    previous_hash  BLOB CHECK (length(previous_hash) = 32),
    previous_until INTEGER,
    rotated_at     INTEGER NOT NULL,
    drawn_until    INTEGER,
    created_by     TEXT NOT NULL,
    created_at     INTEGER NOT NULL,
    disabled_at    INTEGER,
    deleted_at     INTEGER,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id),
    CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
) STRICT;
CREATE UNIQUE INDEX token_pools_name ON token_pools (tenant_id, name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX token_pools_hash ON token_pools (hash);
CREATE INDEX token_pools_previous ON token_pools (previous_hash) WHERE previous_hash IS NOT NULL;

-- SQLite adds no foreign key of two columns to a table that is there; pools are never deleted from theirs.
ALTER TABLE bootstrap_tokens ADD COLUMN pool_id TEXT;
CREATE INDEX bootstrap_tokens_of_pool ON bootstrap_tokens (tenant_id, pool_id, expires_at)
    WHERE pool_id IS NOT NULL AND redeemed_at IS NULL AND revoked_at IS NULL;
CREATE INDEX bootstrap_tokens_unused ON bootstrap_tokens (expires_at) WHERE redeemed_at IS NULL;
