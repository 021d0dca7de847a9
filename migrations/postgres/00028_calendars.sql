-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- When agents may be disturbed, and how many at once.

-- +goose Up

CREATE TABLE schedules (
    tenant_id  text NOT NULL REFERENCES tenants,
    id         uuid NOT NULL,
    name       text COLLATE "C" NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('window', 'freeze')),
    -- None: all groups.
    groups     uuid[] NOT NULL DEFAULT '{}',
    cron       text NOT NULL DEFAULT '',
    rule       text NOT NULL DEFAULT '',
    from_at    timestamptz,
    until_at   timestamptz,
    -- Nanoseconds.
    length     bigint NOT NULL DEFAULT 0,
    zone       text NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE budgets (
    tenant_id  text NOT NULL REFERENCES tenants,
    id         uuid NOT NULL,
    name       text COLLATE "C" NOT NULL,
    label      text COLLATE "C" NOT NULL,
    most       integer NOT NULL CHECK (most > 0),
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

-- Agents that are disturbed by something that is no rollout, such as a restart, until a time.
CREATE TABLE disturbances (
    tenant_id text NOT NULL,
    agent_id  uuid NOT NULL,
    kind      text NOT NULL,
    until_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, kind),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX disturbances_until ON disturbances (tenant_id, until_at);

-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['schedules', 'budgets', 'disturbances'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant())', t);
    END LOOP;
END
$$;
-- +goose StatementEnd
GRANT SELECT, INSERT, UPDATE, DELETE ON schedules, budgets, disturbances TO ampora_api, ampora_worker;
