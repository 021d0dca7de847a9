-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Several gateways and several processes of the control plane: identities of gateways, leases of replicas, and what a
-- session needs to move between gateways.

-- +goose Up

ALTER TABLE signing_keys DROP CONSTRAINT signing_keys_kind_check;
ALTER TABLE signing_keys ADD CONSTRAINT signing_keys_kind_check
    CHECK (kind IN ('root', 'intermediate', 'server-root', 'gateway-root', 'control-root'));

-- One row is a gateway: its identity (joined_at is null for that of the all-in-one program, which serves every tenant) and
-- its present process: boot_id is 0, the times null, until one registers.
ALTER TABLE gateways
    ALTER COLUMN started_at DROP NOT NULL,
    ALTER COLUMN lease_until DROP NOT NULL,
    -- The tenants it may serve, ascending; every_tenant says all.
    ADD COLUMN every_tenant    boolean NOT NULL DEFAULT true,
    ADD COLUMN tenants         text[] NOT NULL DEFAULT '{}',
    ADD COLUMN serial          text NOT NULL DEFAULT '',
    ADD COLUMN previous_serial text NOT NULL DEFAULT '',
    ADD COLUMN not_after       timestamptz,
    ADD COLUMN joined_at       timestamptz,
    ADD COLUMN revoked_at      timestamptz,
    ADD COLUMN bus_lost        boolean NOT NULL DEFAULT false;

CREATE TABLE join_tokens (
    id           uuid PRIMARY KEY,
    hash         bytea NOT NULL CHECK (length(hash) = 32),
    gateway_id   text NOT NULL,
    every_tenant boolean NOT NULL,
    tenants      text[] NOT NULL,
    -- The tenant whose Admin issued it; '' for the operator of the installation.
    issuer       text NOT NULL,
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    revoked_at   timestamptz,
    used_at      timestamptz,
    public_key   bytea CHECK (length(public_key) = 32),
    CHECK ((used_at IS NULL) = (public_key IS NULL))
);
CREATE UNIQUE INDEX join_tokens_hash ON join_tokens (hash);
CREATE INDEX join_tokens_newest ON join_tokens (issuer, created_at, id);

-- Processes of the control plane. What one of them holds it holds while its lease lasts.
CREATE TABLE replicas (
    id          text PRIMARY KEY,
    version     text NOT NULL DEFAULT '',
    started_at  timestamptz NOT NULL,
    lease_until timestamptz NOT NULL
);

-- What one replica does alone; '' if nobody does.
CREATE TABLE duties (
    name   text PRIMARY KEY,
    holder text NOT NULL
);

ALTER TABLE partitions DROP COLUMN lease_until;

-- Reports of the session before this one still count if they were on their way when it was claimed: up to the sequence
-- that the claim went on from.
ALTER TABLE agents
    ADD COLUMN former_epoch      bigint NOT NULL DEFAULT 0,
    ADD COLUMN former_gateway_id text NOT NULL DEFAULT '',
    ADD COLUMN former_boot_id    bigint NOT NULL DEFAULT 0,
    ADD COLUMN former_sequence   bigint NOT NULL DEFAULT 0;

-- An agent that polls may come to any gateway: those that share its session beside the one that claimed it.
CREATE TABLE seats (
    tenant_id  text NOT NULL,
    agent_id   uuid NOT NULL,
    gateway_id text NOT NULL,
    boot_id    bigint NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, gateway_id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX seats_gateway ON seats (gateway_id, boot_id);
ALTER TABLE seats ENABLE ROW LEVEL SECURITY;
ALTER TABLE seats FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON seats USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
CREATE POLICY routing ON seats TO ampora_worker USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON seats TO ampora_api, ampora_worker;
GRANT SELECT, INSERT, UPDATE ON join_tokens TO ampora_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON replicas, duties TO ampora_worker;
