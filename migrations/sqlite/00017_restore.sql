-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE foreign_revocations (
    tenant_id  TEXT NOT NULL,
    key_id     TEXT NOT NULL,
    serial     TEXT NOT NULL,
    revoked_at INTEGER NOT NULL,
    reason     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key_id, serial)
) STRICT;
