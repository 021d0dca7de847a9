-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- See the file of the same name for PostgreSQL.

-- +goose Up

-- SQLite cannot change a CHECK: the table is made anew.
CREATE TABLE signing_keys_new (
    -- '' for keys that belong to no tenant, such as the development listener's server root.
    tenant_id       TEXT NOT NULL,
    id              TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('draft', 'active', 'trusted', 'retired')),
    kind            TEXT NOT NULL CHECK (kind IN ('root', 'intermediate', 'server-root', 'gateway-root', 'control-root')),
    algorithm       TEXT NOT NULL,
    certificate_der BLOB NOT NULL,
    parent_id       TEXT NOT NULL DEFAULT '',
    sealed_key      BLOB NOT NULL,
    created_at      INTEGER NOT NULL,
    activated_at    INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT;
INSERT INTO signing_keys_new SELECT * FROM signing_keys;
DROP TABLE signing_keys;
ALTER TABLE signing_keys_new RENAME TO signing_keys;
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (tenant_id, kind) WHERE state = 'active';

-- Nor can it let a column be null.
CREATE TABLE gateways_new (
    id              TEXT PRIMARY KEY,
    boot_id         INTEGER NOT NULL,
    version         TEXT NOT NULL DEFAULT '',
    started_at      INTEGER,
    lease_until     INTEGER,
    every_tenant    INTEGER NOT NULL DEFAULT true,
    tenants         TEXT NOT NULL DEFAULT '[]',
    serial          TEXT NOT NULL DEFAULT '',
    previous_serial TEXT NOT NULL DEFAULT '',
    not_after       INTEGER,
    joined_at       INTEGER,
    revoked_at      INTEGER,
    bus_lost        INTEGER NOT NULL DEFAULT false
) STRICT;
INSERT INTO gateways_new (id, boot_id, version, started_at, lease_until)
    SELECT id, boot_id, version, started_at, lease_until FROM gateways;
DROP TABLE gateways;
ALTER TABLE gateways_new RENAME TO gateways;

CREATE TABLE join_tokens (
    id           TEXT PRIMARY KEY,
    hash         BLOB NOT NULL CHECK (length(hash) = 32),
    gateway_id   TEXT NOT NULL,
    every_tenant INTEGER NOT NULL,
    tenants      TEXT NOT NULL,
    issuer       TEXT NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    revoked_at   INTEGER,
    used_at      INTEGER,
    public_key   BLOB CHECK (length(public_key) = 32),
    CHECK ((used_at IS NULL) = (public_key IS NULL))
) STRICT;
CREATE UNIQUE INDEX join_tokens_hash ON join_tokens (hash);
CREATE INDEX join_tokens_newest ON join_tokens (issuer, created_at, id);

CREATE TABLE replicas (
    id          TEXT PRIMARY KEY,
    version     TEXT NOT NULL DEFAULT '',
    started_at  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT;

CREATE TABLE duties (
    name   TEXT PRIMARY KEY,
    holder TEXT NOT NULL
) STRICT;

ALTER TABLE partitions DROP COLUMN lease_until;

ALTER TABLE agents ADD COLUMN former_epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN former_gateway_id TEXT NOT NULL DEFAULT '';
ALTER TABLE agents ADD COLUMN former_boot_id INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN former_sequence INTEGER NOT NULL DEFAULT 0;

CREATE TABLE seats (
    tenant_id  TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    gateway_id TEXT NOT NULL,
    boot_id    INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, gateway_id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) STRICT;
CREATE INDEX seats_gateway ON seats (gateway_id, boot_id);
