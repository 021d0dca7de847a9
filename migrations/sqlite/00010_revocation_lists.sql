-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE revocation_lists (
    tenant_id   TEXT NOT NULL,
    key_id      TEXT NOT NULL,
    number      INTEGER NOT NULL,
    der         BLOB NOT NULL,
    this_update INTEGER NOT NULL,
    next_update INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
) STRICT;

ALTER TABLE certificates ADD COLUMN listed INTEGER NOT NULL DEFAULT 0;
CREATE INDEX certificates_unlisted ON certificates (tenant_id, key_id) WHERE revoked_at IS NOT NULL AND listed = 0;
