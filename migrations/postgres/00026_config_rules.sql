-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- What a tenant forbids in configurations, beside what the Collector refuses.

-- +goose Up

CREATE TABLE config_rules (
    tenant_id  text NOT NULL REFERENCES tenants,
    id         text COLLATE "C" NOT NULL CHECK (id ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    severity   text NOT NULL CHECK (severity IN ('error', 'warning', 'info')),
    expression text NOT NULL,
    message    text NOT NULL,
    fix        text NOT NULL DEFAULT '',
    changed_by text NOT NULL,
    changed_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
ALTER TABLE config_rules ENABLE ROW LEVEL SECURITY;
ALTER TABLE config_rules FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON config_rules USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
GRANT SELECT, INSERT, UPDATE, DELETE ON config_rules TO ampora_api;
