-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Signing keys are replaced in phases that look at the fleet.

-- +goose Up

-- Changes of signing keys are counted, in the order in which they are committed: one row, locked for the count. A gateway
-- says which of them it knows; a key is known to it if that is not before the change that made the key.
CREATE TABLE trust (
    one        boolean PRIMARY KEY DEFAULT true CHECK (one),
    generation bigint NOT NULL
);
INSERT INTO trust (generation) VALUES (0);
GRANT SELECT, UPDATE ON trust TO ampora_worker;

ALTER TABLE signing_keys
    ADD COLUMN generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN trusted_at timestamptz,
    ADD COLUMN retired_at timestamptz;
ALTER TABLE gateways ADD COLUMN trust_generation bigint NOT NULL DEFAULT 0;

-- What stands of a key.
CREATE INDEX certificates_key ON certificates (tenant_id, key_id, serial) WHERE revoked_at IS NULL;
