-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE config_rules (
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    id         TEXT NOT NULL,
    severity   TEXT NOT NULL CHECK (severity IN ('error', 'warning', 'info')),
    expression TEXT NOT NULL,
    message    TEXT NOT NULL,
    fix        TEXT NOT NULL DEFAULT '',
    changed_by TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id)
) STRICT;
