-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

CREATE TABLE ocsp_responders (
    tenant_id       TEXT NOT NULL,
    key_id          TEXT NOT NULL,
    serial          TEXT NOT NULL,
    certificate_der BLOB NOT NULL,
    sealed_key      BLOB NOT NULL,
    not_after       INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
) STRICT;

ALTER TABLE tenants ADD COLUMN revocations INTEGER NOT NULL DEFAULT 0;
ALTER TABLE certificates ADD COLUMN revocation INTEGER NOT NULL DEFAULT 0;
UPDATE certificates SET revocation = n.number
FROM (SELECT tenant_id, serial, row_number() OVER (PARTITION BY tenant_id ORDER BY revoked_at, serial) AS number
      FROM certificates WHERE revoked_at IS NOT NULL) n
WHERE certificates.tenant_id = n.tenant_id AND certificates.serial = n.serial;
UPDATE tenants SET revocations = (SELECT coalesce(max(revocation), 0) FROM certificates WHERE tenant_id = tenants.id);
CREATE UNIQUE INDEX certificates_revocation ON certificates (tenant_id, revocation) WHERE revocation > 0;
