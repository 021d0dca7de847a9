-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- What was revoked after a backup, from a list that was published.

-- +goose Up

-- Certificates that were revoked and are not on record, because they were made after the backup. They stay on the lists of
-- their key.
CREATE TABLE foreign_revocations (
    tenant_id  text NOT NULL,
    key_id     text NOT NULL,
    serial     text NOT NULL,
    revoked_at timestamptz NOT NULL,
    reason     smallint NOT NULL,
    PRIMARY KEY (tenant_id, key_id, serial)
);
ALTER TABLE foreign_revocations ENABLE ROW LEVEL SECURITY;
ALTER TABLE foreign_revocations FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON foreign_revocations USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
GRANT SELECT, INSERT ON foreign_revocations TO ampora_api, ampora_worker;
