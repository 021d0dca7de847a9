-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- The first schema. Two roles without login or privileges beyond these tables carry all access: ampora_api sees the
-- tenant that the transaction named and nothing else; ampora_worker besides may look over tenants at queues, leases and
-- the few columns it routes by. The owner of the tables is bound by the same policies (FORCE). A transaction that named
-- no tenant sees no rows.

-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE
    r text;
BEGIN
    -- Roles belong to the cluster, not the database: another database's migration may create them at the same moment.
    FOREACH r IN ARRAY ARRAY['ampora_api', 'ampora_worker'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', r);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
        -- Who creates a role may grant it, not yet take it.
        IF NOT pg_has_role(current_user, r, 'SET') THEN
            BEGIN
                EXECUTE format('GRANT %I TO %I WITH INHERIT FALSE, SET TRUE', r, current_user);
            EXCEPTION WHEN insufficient_privilege THEN
                RAISE EXCEPTION 'the role % exists in this cluster already, and % may not take it; a superuser can let it: GRANT ampora_api, ampora_worker TO %',
                    r, current_user, quote_ident(current_user);
            END;
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- The tenant of this transaction; null, and so equal to nothing, when none was named.
-- +goose StatementBegin
CREATE FUNCTION ampora_tenant() RETURNS text
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(current_setting('ampora.tenant', true), '');
-- +goose StatementEnd

-- What is decided once for the installation: trust domain, master key check, downlink key (wrapped).
CREATE TABLE settings (
    name  text PRIMARY KEY,
    value bytea NOT NULL
);

CREATE TABLE tenants (
    id               text PRIMARY KEY CHECK (id ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    created_at       timestamptz NOT NULL,
    wrapped_data_key bytea NOT NULL
);

CREATE TABLE signing_keys (
    -- '' for keys that belong to no tenant, such as the development listener's server root.
    tenant_id       text NOT NULL,
    id              text NOT NULL,
    state           text NOT NULL CHECK (state IN ('draft', 'active', 'trusted', 'retired')),
    kind            text NOT NULL CHECK (kind IN ('root', 'intermediate', 'server-root')),
    algorithm       text NOT NULL,
    certificate_der bytea NOT NULL,
    parent_id       text NOT NULL DEFAULT '',
    sealed_key      bytea NOT NULL,
    created_at      timestamptz NOT NULL,
    activated_at    timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (tenant_id, kind) WHERE state = 'active';

CREATE TABLE api_tokens (
    tenant_id  text NOT NULL REFERENCES tenants,
    id         uuid NOT NULL,
    name       text NOT NULL,
    role       smallint NOT NULL CHECK (role BETWEEN 1 AND 3),
    hash       bytea NOT NULL CHECK (length(hash) = 32),
    procedures text[] NOT NULL DEFAULT '{}',
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX api_tokens_hash ON api_tokens (hash);
CREATE INDEX api_tokens_name ON api_tokens (tenant_id, name);
CREATE INDEX api_tokens_newest ON api_tokens (tenant_id, created_at, id);

-- Names sort by their bytes, as on SQLite, whatever the locale of the database and its next release.
CREATE TABLE groups (
    tenant_id   text NOT NULL REFERENCES tenants,
    id          uuid NOT NULL,
    name        text COLLATE "C" NOT NULL,
    description text NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL,
    deleted_at  timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX groups_name ON groups (tenant_id, name) WHERE deleted_at IS NULL;

CREATE TABLE bootstrap_tokens (
    tenant_id   text NOT NULL REFERENCES tenants,
    id          uuid NOT NULL,
    hash        bytea NOT NULL CHECK (length(hash) = 32),
    group_id    uuid,
    description text NOT NULL DEFAULT '',
    created_by  text NOT NULL,
    created_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    redeemed_at timestamptz,
    agent_id    uuid,
    public_key  bytea CHECK (length(public_key) = 32),
    serial      text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id),
    -- Redeemed says all of it or nothing.
    CHECK (num_nulls(redeemed_at, agent_id, public_key, serial) IN (0, 4))
);
CREATE UNIQUE INDEX bootstrap_tokens_hash ON bootstrap_tokens (hash);
CREATE INDEX bootstrap_tokens_newest ON bootstrap_tokens (tenant_id, created_at, id);

CREATE TABLE gateways (
    id          text PRIMARY KEY,
    boot_id     bigint NOT NULL,
    version     text NOT NULL DEFAULT '',
    started_at  timestamptz NOT NULL,
    lease_until timestamptz NOT NULL
);

-- One identity: what it is, the summary of what it says, its session, its delivery.
CREATE TABLE agents (
    tenant_id       text NOT NULL REFERENCES tenants,
    id              uuid NOT NULL,
    -- Uplink partition, a function of the id.
    partition       smallint NOT NULL,
    enrolled_at     timestamptz NOT NULL,
    method          text NOT NULL,
    first_seen_at   timestamptz,
    parent_id       uuid,
    max_children    integer NOT NULL DEFAULT 0,
    group_id        uuid,
    instance_uid    uuid,
    serial          text NOT NULL DEFAULT '',
    quarantined_at  timestamptz,
    -- Recent takeovers by clones.
    takeovers       timestamptz[] NOT NULL DEFAULT '{}',

    service_name    text NOT NULL DEFAULT '',
    service_version text NOT NULL DEFAULT '',
    host_name       text NOT NULL DEFAULT '',
    capabilities    bigint NOT NULL DEFAULT 0,
    accepts_config  boolean,
    healthy         boolean,

    epoch           bigint NOT NULL DEFAULT 0,
    last_sequence   bigint NOT NULL DEFAULT 0,
    state_known     boolean NOT NULL DEFAULT false,
    gateway_id      text NOT NULL DEFAULT '',
    boot_id         bigint NOT NULL DEFAULT 0,
    transport       text NOT NULL DEFAULT '',
    peer            text NOT NULL DEFAULT '',
    connected_at    timestamptz,
    last_seen_at    timestamptz,
    ended_at        timestamptz,
    end_reason      text NOT NULL DEFAULT '',

    delivery_state  text NOT NULL DEFAULT 'none',
    delivery        jsonb NOT NULL DEFAULT '{}',
    attention       jsonb NOT NULL DEFAULT '[]',

    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id),
    FOREIGN KEY (tenant_id, parent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX agents_group ON agents (tenant_id, group_id, id) WHERE group_id IS NOT NULL;
CREATE INDEX agents_host ON agents (tenant_id, host_name text_pattern_ops, id);
CREATE INDEX agents_service ON agents (tenant_id, service_name text_pattern_ops, id);
CREATE INDEX agents_delivery ON agents (tenant_id, delivery_state, id);
CREATE INDEX agents_unhealthy ON agents (tenant_id, id) WHERE healthy = false;
CREATE INDEX agents_open_sessions ON agents (gateway_id, boot_id) WHERE ended_at IS NULL AND epoch > 0;
CREATE INDEX agents_children ON agents (tenant_id, parent_id) WHERE parent_id IS NOT NULL;

-- Which agent a uid belongs to, for good.
CREATE TABLE agent_uids (
    tenant_id    text NOT NULL,
    instance_uid uuid NOT NULL,
    agent_id     uuid NOT NULL,
    bound_at     timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, instance_uid),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);

CREATE TABLE certificates (
    tenant_id   text NOT NULL,
    serial      text NOT NULL,
    fingerprint text NOT NULL,
    agent_id    uuid NOT NULL,
    key_id      text NOT NULL,
    not_before  timestamptz NOT NULL,
    not_after   timestamptz NOT NULL,
    der         bytea NOT NULL,
    chain_pem   bytea NOT NULL,
    created_at  timestamptz NOT NULL,
    revoked_at  timestamptz,
    PRIMARY KEY (tenant_id, serial),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX certificates_agent ON certificates (tenant_id, agent_id);
CREATE INDEX certificates_revoked ON certificates (tenant_id, not_after) WHERE revoked_at IS NOT NULL;

-- Reports: one row per agent and part, under the stamp of the message that carried it.
CREATE TABLE agent_parts (
    tenant_id text NOT NULL,
    agent_id  uuid NOT NULL,
    kind      text NOT NULL,
    epoch     bigint NOT NULL,
    sequence  bigint NOT NULL,
    at        timestamptz NOT NULL,
    value     jsonb NOT NULL,
    raw       bytea NOT NULL,
    digest    text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, agent_id, kind),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) WITH (fillfactor = 80);

-- Searchable labels: a table and b-trees, because neither GIN nor trigram indexes are used behind a policy.
CREATE TABLE agent_labels (
    tenant_id text NOT NULL,
    agent_id  uuid NOT NULL,
    key       text NOT NULL,
    value     text NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, key),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
);
CREATE INDEX agent_labels_search ON agent_labels (tenant_id, key, value, agent_id);

-- Content-addressed bodies, sealed with the tenant's data key.
CREATE TABLE bodies (
    tenant_id  text NOT NULL REFERENCES tenants,
    hash       bytea NOT NULL CHECK (length(hash) = 32),
    size       bigint NOT NULL,
    sealed     bytea NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, hash)
);
ALTER TABLE bodies ALTER COLUMN sealed SET STORAGE EXTERNAL; -- sealed bytes do not compress

CREATE TABLE configs (
    tenant_id   text NOT NULL REFERENCES tenants,
    id          uuid NOT NULL,
    name        text COLLATE "C" NOT NULL,
    description text NOT NULL DEFAULT '',
    kind        text NOT NULL CHECK (kind IN ('collector', 'opaque')),
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

CREATE TABLE config_versions (
    tenant_id    text NOT NULL,
    config_id    uuid NOT NULL,
    version      integer NOT NULL CHECK (version > 0),
    state        text NOT NULL CHECK (state IN ('draft', 'published', 'archived')),
    body_hash    bytea NOT NULL,
    offer_hash   bytea NOT NULL CHECK (length(offer_hash) = 32),
    size         bigint NOT NULL,
    content_type text NOT NULL,
    revision     integer NOT NULL DEFAULT 1,
    note         text NOT NULL DEFAULT '',
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL,
    published_at timestamptz,
    PRIMARY KEY (tenant_id, config_id, version),
    FOREIGN KEY (tenant_id, config_id) REFERENCES configs (tenant_id, id),
    FOREIGN KEY (tenant_id, body_hash) REFERENCES bodies (tenant_id, hash)
);

-- Assignment, grant, report: three rows, one writer each. This one is the API's.
CREATE TABLE assignments (
    tenant_id  text NOT NULL,
    -- 'agent' or 'group', and its id.
    target     text NOT NULL CHECK (target IN ('agent', 'group')),
    target_id  uuid NOT NULL,
    config_id  uuid NOT NULL,
    version    integer NOT NULL,
    generation bigint NOT NULL,
    created_by text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, target, target_id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
);
CREATE INDEX assignments_version ON assignments (tenant_id, config_id, version);

-- The engine's.
CREATE TABLE grants (
    tenant_id    text NOT NULL,
    agent_id     uuid NOT NULL,
    config_id    uuid NOT NULL,
    version      integer NOT NULL,
    offer_hash   bytea NOT NULL,
    state        text NOT NULL CHECK (state IN ('open', 'met', 'failed', 'closed')),
    reason       text NOT NULL,
    generation   bigint NOT NULL,
    opened_at    timestamptz NOT NULL,
    -- Stamp of the status on record when it was opened: only a later word can fail it.
    seen_epoch    bigint NOT NULL DEFAULT 0,
    seen_sequence bigint NOT NULL DEFAULT 0,
    sent_at      timestamptz,
    delivered_at timestamptz,
    applying_at  timestamptz,
    settled_at   timestamptz,
    -- The gateway's last complaint while open.
    undelivered  text NOT NULL DEFAULT '',
    message      text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, agent_id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
);

-- The ledger: what became of each offer on each agent.
CREATE TABLE attempts (
    tenant_id  text NOT NULL,
    agent_id   uuid NOT NULL,
    offer_hash bytea NOT NULL,
    config_id  uuid NOT NULL,
    version    integer NOT NULL,
    outcome    text NOT NULL CHECK (outcome IN ('offered', 'applying', 'applied', 'failed', 'rolled_back')),
    message    text NOT NULL DEFAULT '',
    first_at   timestamptz NOT NULL,
    last_at    timestamptz NOT NULL,
    cleared_at timestamptz,
    PRIMARY KEY (tenant_id, agent_id, offer_hash),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
);
CREATE INDEX attempts_last_good ON attempts (tenant_id, agent_id, last_at DESC) WHERE outcome = 'applied';

-- Agents the engine should look at. version grows with every wake: a claim settles only what it saw.
CREATE TABLE work (
    tenant_id text NOT NULL,
    agent_id  uuid NOT NULL,
    wake_at   timestamptz NOT NULL,
    version   bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, agent_id)
);
CREATE INDEX work_due ON work (wake_at);

-- What is to be sent: the latest of each kind per agent.
CREATE TABLE outbox (
    tenant_id  text NOT NULL,
    agent_id   uuid NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('config', 'full_state', 'close')),
    generation bigint NOT NULL DEFAULT 0,
    reason     text NOT NULL DEFAULT '',
    due_at     timestamptz NOT NULL,
    tries      integer NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, agent_id, kind)
);
CREATE INDEX outbox_due ON outbox (due_at);

-- Uplink partitions: who records each, and up to where it is recorded.
CREATE TABLE partitions (
    partition   smallint PRIMARY KEY,
    holder      text NOT NULL,
    epoch       bigint NOT NULL,
    lease_until timestamptz NOT NULL,
    position    text NOT NULL DEFAULT ''
);

CREATE TABLE partition_counters (
    partition  smallint NOT NULL,
    gateway_id text NOT NULL,
    boot_id    bigint NOT NULL,
    counter    bigint NOT NULL,
    PRIMARY KEY (partition, gateway_id)
);

-- What happened: history and live stream are these rows. xid makes the commit order readable: rows of transactions
-- older than every running one cannot be preceded any more.
CREATE TABLE events (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    tenant_id  text NOT NULL,
    at         timestamptz NOT NULL,
    kind       text NOT NULL,
    agent_id   uuid,
    message    text NOT NULL DEFAULT '',
    attributes jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX events_stream ON events (tenant_id, xid, id);
CREATE INDEX events_agent ON events (tenant_id, agent_id, id DESC) WHERE agent_id IS NOT NULL;
CREATE INDEX events_age ON events (at);

CREATE TABLE audit_events (
    id          bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id   text NOT NULL,
    at          timestamptz NOT NULL,
    actor_kind  text NOT NULL,
    actor_id    text NOT NULL,
    actor_name  text NOT NULL,
    role        smallint NOT NULL,
    action      text NOT NULL,
    entity_kind text NOT NULL,
    entity_id   text NOT NULL,
    before      jsonb,
    after       jsonb,
    source      text NOT NULL DEFAULT '',
    trace_id    text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_events_newest ON audit_events (tenant_id, at, id);
CREATE INDEX audit_events_entity ON audit_events (tenant_id, entity_id, at, id);

CREATE TABLE audit_refusals (
    id         bigint GENERATED ALWAYS AS IDENTITY,
    tenant_id  text NOT NULL,
    hour       timestamptz NOT NULL,
    actor_kind text NOT NULL,
    actor_id   text NOT NULL,
    actor_name text NOT NULL,
    role       smallint NOT NULL,
    action     text NOT NULL,
    reason     text NOT NULL,
    entity_id  text NOT NULL DEFAULT '',
    count      bigint NOT NULL DEFAULT 1,
    last_at    timestamptz NOT NULL,
    source     text NOT NULL DEFAULT '',
    trace_id   text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, hour, actor_id, action, reason, entity_id)
);
CREATE INDEX audit_refusals_newest ON audit_refusals (tenant_id, last_at, id);
CREATE INDEX audit_refusals_entity ON audit_refusals (tenant_id, entity_id, last_at, id);

-- Privileges and policies.
GRANT USAGE ON SCHEMA public TO ampora_api, ampora_worker;
GRANT EXECUTE ON FUNCTION ampora_tenant() TO ampora_api, ampora_worker;
-- Any login may ask which migrations ran, before it takes a role.
GRANT SELECT ON ampora_migrations TO PUBLIC;

-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['signing_keys', 'api_tokens', 'groups', 'bootstrap_tokens', 'agents', 'agent_uids',
        'certificates', 'agent_parts', 'agent_labels', 'bodies', 'configs', 'config_versions', 'assignments', 'grants',
        'attempts', 'work', 'outbox', 'events', 'audit_events', 'audit_refusals'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
        EXECUTE format('CREATE POLICY tenant ON %I USING (tenant_id = ampora_tenant()) WITH CHECK (tenant_id = ampora_tenant())', t);
    END LOOP;
    ALTER TABLE tenants ENABLE ROW LEVEL SECURITY;
    ALTER TABLE tenants FORCE ROW LEVEL SECURITY;
    CREATE POLICY tenant ON tenants USING (id = ampora_tenant()) WITH CHECK (id = ampora_tenant());
END
$$;
-- +goose StatementEnd

-- Keys of no tenant: the worker's alone.
CREATE POLICY installation ON signing_keys TO ampora_worker USING (tenant_id = '') WITH CHECK (tenant_id = '');
-- The worker looks over tenants where a queue or a hash decides whose row it is; effects are written as the tenant.
CREATE POLICY routing ON tenants FOR SELECT TO ampora_worker USING (true);
CREATE POLICY routing ON api_tokens FOR SELECT TO ampora_worker USING (true);
CREATE POLICY routing ON bootstrap_tokens FOR SELECT TO ampora_worker USING (true);
CREATE POLICY routing ON agents TO ampora_worker USING (true) WITH CHECK (true);
CREATE POLICY routing ON grants FOR SELECT TO ampora_worker USING (true);
CREATE POLICY routing ON config_versions FOR SELECT TO ampora_worker USING (true);
CREATE POLICY routing ON configs FOR SELECT TO ampora_worker USING (true);
CREATE POLICY queue ON work TO ampora_worker USING (true) WITH CHECK (true);
CREATE POLICY queue ON outbox TO ampora_worker USING (true) WITH CHECK (true);
CREATE POLICY pruning ON events FOR SELECT TO ampora_worker USING (true);
CREATE POLICY pruning_delete ON events FOR DELETE TO ampora_worker USING (true);
CREATE POLICY ending ON events FOR INSERT TO ampora_worker WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE, DELETE ON tenants, signing_keys, api_tokens, groups, bootstrap_tokens, agents, agent_uids,
    certificates, agent_parts, agent_labels, bodies, configs, config_versions, assignments, grants, attempts, work, outbox
    TO ampora_api, ampora_worker;
GRANT SELECT, INSERT ON events, audit_events TO ampora_api, ampora_worker;
GRANT DELETE ON events TO ampora_worker;
GRANT SELECT, INSERT, UPDATE ON audit_refusals TO ampora_api, ampora_worker;
-- Installation-wide tables hold no tenant's data.
GRANT SELECT, INSERT ON settings TO ampora_worker;
GRANT SELECT ON gateways TO ampora_api;
GRANT SELECT, INSERT, UPDATE ON gateways TO ampora_worker;
GRANT SELECT, INSERT, UPDATE, DELETE ON partitions, partition_counters TO ampora_worker;
