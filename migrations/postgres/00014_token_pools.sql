-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Pools hand out bootstrap tokens to whoever has their secret; and bootstrap tokens that enrolled nobody are forgotten
-- some time after their end.

-- +goose Up

-- A deleted pool stays, without its name: tokens and the audit log speak of it.
CREATE TABLE token_pools (
    tenant_id      text NOT NULL REFERENCES tenants,
    id             uuid NOT NULL,
    name           text COLLATE "C" NOT NULL,
    description    text NOT NULL DEFAULT '',
    group_id       uuid,
    ttl_seconds    bigint NOT NULL CHECK (ttl_seconds > 0),
    live_limit     integer NOT NULL CHECK (live_limit >= 0),
    per_hour       integer NOT NULL CHECK (per_hour > 0),
    burst          integer NOT NULL CHECK (burst > 0),
    hash           bytea NOT NULL CHECK (length(hash) = 32),
    previous_hash  bytea CHECK (length(previous_hash) = 32),
    previous_until timestamptz,
    rotated_at     timestamptz NOT NULL,
    drawn_until    timestamptz,
    created_by     text NOT NULL,
    created_at     timestamptz NOT NULL,
    disabled_at    timestamptz,
    deleted_at     timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id),
    CHECK ((previous_hash IS NULL) = (previous_until IS NULL))
);
CREATE UNIQUE INDEX token_pools_name ON token_pools (tenant_id, name) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX token_pools_hash ON token_pools (hash);
CREATE INDEX token_pools_previous ON token_pools (previous_hash) WHERE previous_hash IS NOT NULL;
ALTER TABLE token_pools ENABLE ROW LEVEL SECURITY;
ALTER TABLE token_pools FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON token_pools USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
-- A secret decides whose pool it is.
CREATE POLICY routing ON token_pools FOR SELECT TO ampora_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON token_pools TO ampora_api;
GRANT SELECT ON token_pools TO ampora_worker;

ALTER TABLE bootstrap_tokens
    ADD COLUMN pool_id uuid,
    ADD FOREIGN KEY (tenant_id, pool_id) REFERENCES token_pools (tenant_id, id);
CREATE INDEX bootstrap_tokens_of_pool ON bootstrap_tokens (tenant_id, pool_id, expires_at)
    WHERE pool_id IS NOT NULL AND redeemed_at IS NULL AND revoked_at IS NULL;
CREATE INDEX bootstrap_tokens_unused ON bootstrap_tokens (expires_at) WHERE redeemed_at IS NULL;
CREATE POLICY sweeping ON bootstrap_tokens FOR DELETE TO ampora_worker USING (redeemed_at IS NULL);
