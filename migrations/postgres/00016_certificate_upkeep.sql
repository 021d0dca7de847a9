-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Agents are offered another certificate before theirs ends, or somebody is told.

-- +goose Up

ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('config', 'full_state', 'close', 'renew'));

-- A row for each agent that has shown a certificate of its own: what was done about the one that it showed last.
CREATE TABLE certificate_upkeep (
    tenant_id   text NOT NULL,
    agent_id    uuid NOT NULL,
    version     bigint NOT NULL DEFAULT 1,
    look_at     timestamptz NOT NULL,
    serial      text NOT NULL,
    -- Another one was offered so often in its place; of the last offer, whose number is the generation: when and in which
    -- session it was made, the certificate that was made for it, and what was said of it.
    offers      integer NOT NULL DEFAULT 0,
    generation  bigint NOT NULL DEFAULT 0,
    offered_at  timestamptz,
    offer_epoch bigint NOT NULL DEFAULT 0,
    given       text NOT NULL DEFAULT '',
    offer_hash  bytea NOT NULL DEFAULT '',
    failure     text NOT NULL DEFAULT '',
    told        integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, agent_id)
);
CREATE INDEX certificate_upkeep_due ON certificate_upkeep (look_at);

-- Who needs a person is listed.
CREATE INDEX agents_attention ON agents (tenant_id, id) WHERE attention <> '[]';

-- Whoever migrates sees no rows of tenants while the policies are forced.
ALTER TABLE agents NO FORCE ROW LEVEL SECURITY;
INSERT INTO certificate_upkeep (tenant_id, agent_id, look_at, serial)
SELECT tenant_id, id, now(), serial FROM agents WHERE serial <> '' AND parent_id IS NULL;
ALTER TABLE agents FORCE ROW LEVEL SECURITY;

ALTER TABLE certificate_upkeep ENABLE ROW LEVEL SECURITY;
ALTER TABLE certificate_upkeep FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON certificate_upkeep USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant());
CREATE POLICY queue ON certificate_upkeep FOR SELECT TO ampora_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON certificate_upkeep TO ampora_api, ampora_worker;
