-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Answers about single certificates (RFC 6960), and what was revoked since one looked last.

-- +goose Up

-- A key that answers for a signing key, and its certificate by that key: the signing key itself may be out of reach.
CREATE TABLE ocsp_responders (
    tenant_id       text NOT NULL,
    key_id          text NOT NULL,
    serial          text NOT NULL,
    certificate_der bytea NOT NULL,
    sealed_key      bytea NOT NULL,
    not_after       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, key_id)
);
ALTER TABLE ocsp_responders ENABLE ROW LEVEL SECURITY;
ALTER TABLE ocsp_responders FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON ocsp_responders USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
-- Anybody may ask, and names the key alone.
CREATE POLICY routing ON ocsp_responders FOR SELECT TO ampora_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON ocsp_responders TO ampora_api, ampora_worker;

-- Whoever keeps lists and responders looks at the keys of all tenants.
CREATE POLICY publishing ON signing_keys FOR SELECT TO ampora_worker USING (true);

-- Revocations of a tenant are numbered in the order in which they are committed: the row of the tenant is locked for the
-- number. 0 is a certificate that is not revoked.
ALTER TABLE tenants ADD COLUMN revocations bigint NOT NULL DEFAULT 0;
ALTER TABLE certificates ADD COLUMN revocation bigint NOT NULL DEFAULT 0;
-- Whoever migrates sees no rows of tenants while the policies are forced.
ALTER TABLE certificates NO FORCE ROW LEVEL SECURITY;
ALTER TABLE tenants NO FORCE ROW LEVEL SECURITY;
UPDATE certificates c SET revocation = n.number
FROM (SELECT tenant_id, serial, row_number() OVER (PARTITION BY tenant_id ORDER BY revoked_at, serial) AS number
      FROM certificates WHERE revoked_at IS NOT NULL) n
WHERE c.tenant_id = n.tenant_id AND c.serial = n.serial;
UPDATE tenants t SET revocations = (SELECT coalesce(max(revocation), 0) FROM certificates WHERE tenant_id = t.id);
ALTER TABLE certificates FORCE ROW LEVEL SECURITY;
ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
CREATE UNIQUE INDEX certificates_revocation ON certificates (tenant_id, revocation) WHERE revocation > 0;
