-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

ALTER TABLE config_versions ADD COLUMN templated INTEGER NOT NULL DEFAULT 0;

CREATE TABLE renderings (
    tenant_id  TEXT NOT NULL,
    offer_hash BLOB NOT NULL CHECK (length(offer_hash) = 32),
    config_id  TEXT NOT NULL,
    version    INTEGER NOT NULL,
    body_hash  BLOB NOT NULL,
    size       INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, offer_hash),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version),
    FOREIGN KEY (tenant_id, body_hash) REFERENCES bodies (tenant_id, hash)
) STRICT;
