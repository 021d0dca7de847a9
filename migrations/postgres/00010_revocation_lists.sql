-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- The list of what is revoked, one for each signing key (RFC 5280, section 5): the newest, as it is handed out.

-- +goose Up

CREATE TABLE revocation_lists (
    tenant_id   text NOT NULL,
    key_id      text NOT NULL,
    number      bigint NOT NULL,
    der         bytea NOT NULL,
    this_update timestamptz NOT NULL,
    next_update timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
);
ALTER TABLE revocation_lists ENABLE ROW LEVEL SECURITY;
ALTER TABLE revocation_lists FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON revocation_lists USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
-- Anybody may have a list, and asks for it by the key alone.
CREATE POLICY routing ON revocation_lists FOR SELECT TO ampora_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON revocation_lists TO ampora_api, ampora_worker;

-- The number of the first list that names a revoked certificate; 0: none does yet.
ALTER TABLE certificates ADD COLUMN listed bigint NOT NULL DEFAULT 0;
CREATE POLICY unlisted ON certificates FOR SELECT TO ampora_worker USING (revoked_at IS NOT NULL AND listed = 0);
CREATE INDEX certificates_unlisted ON certificates (tenant_id, key_id) WHERE revoked_at IS NOT NULL AND listed = 0;
