-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- A version that is a template is another configuration for each agent, or for each kind of agents: what came out is kept
-- by the hash of the offer, which is how grants, the ledger and agents speak of it.

-- +goose Up

ALTER TABLE config_versions ADD COLUMN templated boolean NOT NULL DEFAULT false;

CREATE TABLE renderings (
    tenant_id  text NOT NULL,
    offer_hash bytea NOT NULL CHECK (length(offer_hash) = 32),
    config_id  uuid NOT NULL,
    version    integer NOT NULL,
    body_hash  bytea NOT NULL,
    size       bigint NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, offer_hash),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version),
    FOREIGN KEY (tenant_id, body_hash) REFERENCES bodies (tenant_id, hash)
);
ALTER TABLE renderings ENABLE ROW LEVEL SECURITY;
ALTER TABLE renderings FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON renderings USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
-- As the versions themselves: what is due to be sent is looked up over tenants.
CREATE POLICY routing ON renderings FOR SELECT TO ampora_worker USING (true);
GRANT SELECT, INSERT ON renderings TO ampora_api, ampora_worker;
