-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- The first schema on SQLite: the tables and columns of the PostgreSQL file of this name, where they are explained. There
-- are no roles and no policies; the queries name their tenant. UUIDs are TEXT in lower case, JSON and arrays are TEXT of
-- JSON, booleans are 0 and 1, times are INTEGER microseconds since 1970 UTC. Events need no xid: one writer at a time
-- makes the order of their ids the order of their commits.

-- +goose Up
CREATE TABLE settings (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE tenants (
    id               TEXT PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 63 AND id NOT GLOB '*[^a-z0-9-]*'),
    created_at       INTEGER NOT NULL,
    wrapped_data_key BLOB NOT NULL
) STRICT;

CREATE TABLE signing_keys (
    -- '' for keys that belong to no tenant, such as the development listener's server root.
    tenant_id       TEXT NOT NULL,
    id              TEXT NOT NULL,
    state           TEXT NOT NULL CHECK (state IN ('draft', 'active', 'trusted', 'retired')),
    kind            TEXT NOT NULL CHECK (kind IN ('root', 'intermediate', 'server-root')),
    algorithm       TEXT NOT NULL,
    certificate_der BLOB NOT NULL,
    parent_id       TEXT NOT NULL DEFAULT '',
    sealed_key      BLOB NOT NULL,
    created_at      INTEGER NOT NULL,
    activated_at    INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX signing_keys_one_active ON signing_keys (tenant_id, kind) WHERE state = 'active';

CREATE TABLE api_tokens (
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    id         TEXT NOT NULL,
    name       TEXT NOT NULL,
    role       INTEGER NOT NULL CHECK (role BETWEEN 1 AND 3),
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    procedures TEXT NOT NULL DEFAULT '[]',
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX api_tokens_hash ON api_tokens (hash);
CREATE INDEX api_tokens_name ON api_tokens (tenant_id, name);
CREATE INDEX api_tokens_newest ON api_tokens (tenant_id, created_at, id);

CREATE TABLE groups (
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    created_at  INTEGER NOT NULL,
    deleted_at  INTEGER,
    PRIMARY KEY (tenant_id, id)
) STRICT;
CREATE UNIQUE INDEX groups_name ON groups (tenant_id, name) WHERE deleted_at IS NULL;

CREATE TABLE bootstrap_tokens (
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    id          TEXT NOT NULL,
    hash        BLOB NOT NULL CHECK (length(hash) = 32),
    group_id    TEXT,
    description TEXT NOT NULL DEFAULT '',
    created_by  TEXT NOT NULL,
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    revoked_at  INTEGER,
    redeemed_at INTEGER,
    agent_id    TEXT,
    public_key  BLOB CHECK (length(public_key) = 32),
    serial      TEXT,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id),
    -- Redeemed says all of it or nothing.
    CHECK ((redeemed_at IS NULL) + (agent_id IS NULL) + (public_key IS NULL) + (serial IS NULL) IN (0, 4))
) STRICT;
CREATE UNIQUE INDEX bootstrap_tokens_hash ON bootstrap_tokens (hash);
CREATE INDEX bootstrap_tokens_newest ON bootstrap_tokens (tenant_id, created_at, id);

CREATE TABLE gateways (
    id          TEXT PRIMARY KEY,
    boot_id     INTEGER NOT NULL,
    version     TEXT NOT NULL DEFAULT '',
    started_at  INTEGER NOT NULL,
    lease_until INTEGER NOT NULL
) STRICT;

CREATE TABLE agents (
    tenant_id       TEXT NOT NULL REFERENCES tenants (id),
    id              TEXT NOT NULL,
    -- Uplink partition, a function of the id.
    partition       INTEGER NOT NULL,
    enrolled_at     INTEGER NOT NULL,
    method          TEXT NOT NULL,
    first_seen_at   INTEGER,
    parent_id       TEXT,
    max_children    INTEGER NOT NULL DEFAULT 0,
    group_id        TEXT,
    instance_uid    TEXT,
    serial          TEXT NOT NULL DEFAULT '',
    quarantined_at  INTEGER,
    -- Recent takeovers by clones.
    takeovers       TEXT NOT NULL DEFAULT '[]',

    service_name    TEXT NOT NULL DEFAULT '',
    service_version TEXT NOT NULL DEFAULT '',
    host_name       TEXT NOT NULL DEFAULT '',
    capabilities    INTEGER NOT NULL DEFAULT 0,
    accepts_config  INTEGER,
    healthy         INTEGER,

    epoch           INTEGER NOT NULL DEFAULT 0,
    last_sequence   INTEGER NOT NULL DEFAULT 0,
    state_known     INTEGER NOT NULL DEFAULT false,
    gateway_id      TEXT NOT NULL DEFAULT '',
    boot_id         INTEGER NOT NULL DEFAULT 0,
    transport       TEXT NOT NULL DEFAULT '',
    peer            TEXT NOT NULL DEFAULT '',
    connected_at    INTEGER,
    last_seen_at    INTEGER,
    ended_at        INTEGER,
    end_reason      TEXT NOT NULL DEFAULT '',

    delivery_state  TEXT NOT NULL DEFAULT 'none',
    delivery        TEXT NOT NULL DEFAULT '{}',
    attention       TEXT NOT NULL DEFAULT '[]',

    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES groups (tenant_id, id),
    FOREIGN KEY (tenant_id, parent_id) REFERENCES agents (tenant_id, id)
) STRICT;
CREATE INDEX agents_group ON agents (tenant_id, group_id, id) WHERE group_id IS NOT NULL;
CREATE INDEX agents_host ON agents (tenant_id, host_name, id);
CREATE INDEX agents_service ON agents (tenant_id, service_name, id);
CREATE INDEX agents_delivery ON agents (tenant_id, delivery_state, id);
CREATE INDEX agents_unhealthy ON agents (tenant_id, id) WHERE healthy = 0;
CREATE INDEX agents_open_sessions ON agents (gateway_id, boot_id) WHERE ended_at IS NULL AND epoch > 0;
CREATE INDEX agents_children ON agents (tenant_id, parent_id) WHERE parent_id IS NOT NULL;

CREATE TABLE agent_uids (
    tenant_id    TEXT NOT NULL,
    instance_uid TEXT NOT NULL,
    agent_id     TEXT NOT NULL,
    bound_at     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, instance_uid),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) STRICT;

CREATE TABLE certificates (
    tenant_id   TEXT NOT NULL,
    serial      TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    agent_id    TEXT NOT NULL,
    key_id      TEXT NOT NULL,
    not_before  INTEGER NOT NULL,
    not_after   INTEGER NOT NULL,
    der         BLOB NOT NULL,
    chain_pem   BLOB NOT NULL,
    created_at  INTEGER NOT NULL,
    revoked_at  INTEGER,
    PRIMARY KEY (tenant_id, serial),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) STRICT;
CREATE INDEX certificates_agent ON certificates (tenant_id, agent_id);
CREATE INDEX certificates_revoked ON certificates (tenant_id, not_after) WHERE revoked_at IS NOT NULL;

CREATE TABLE agent_parts (
    tenant_id TEXT NOT NULL,
    agent_id  TEXT NOT NULL,
    kind      TEXT NOT NULL,
    epoch     INTEGER NOT NULL,
    sequence  INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    value     TEXT NOT NULL,
    raw       BLOB NOT NULL,
    digest    TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, agent_id, kind),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) STRICT;

CREATE TABLE agent_labels (
    tenant_id TEXT NOT NULL,
    agent_id  TEXT NOT NULL,
    key       TEXT NOT NULL,
    value     TEXT NOT NULL,
    PRIMARY KEY (tenant_id, agent_id, key),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id)
) STRICT;
CREATE INDEX agent_labels_search ON agent_labels (tenant_id, key, value, agent_id);

CREATE TABLE bodies (
    tenant_id  TEXT NOT NULL REFERENCES tenants (id),
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    size       INTEGER NOT NULL,
    sealed     BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, hash)
) STRICT;

CREATE TABLE configs (
    tenant_id   TEXT NOT NULL REFERENCES tenants (id),
    id          TEXT NOT NULL,
    name        TEXT NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    kind        TEXT NOT NULL CHECK (kind IN ('collector', 'opaque')),
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
) STRICT;

CREATE TABLE config_versions (
    tenant_id    TEXT NOT NULL,
    config_id    TEXT NOT NULL,
    version      INTEGER NOT NULL CHECK (version > 0),
    state        TEXT NOT NULL CHECK (state IN ('draft', 'published', 'archived')),
    body_hash    BLOB NOT NULL,
    offer_hash   BLOB NOT NULL CHECK (length(offer_hash) = 32),
    size         INTEGER NOT NULL,
    content_type TEXT NOT NULL,
    revision     INTEGER NOT NULL DEFAULT 1,
    note         TEXT NOT NULL DEFAULT '',
    created_by   TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    published_at INTEGER,
    PRIMARY KEY (tenant_id, config_id, version),
    FOREIGN KEY (tenant_id, config_id) REFERENCES configs (tenant_id, id),
    FOREIGN KEY (tenant_id, body_hash) REFERENCES bodies (tenant_id, hash)
) STRICT;

CREATE TABLE assignments (
    tenant_id  TEXT NOT NULL,
    -- 'agent' or 'group', and its id.
    target     TEXT NOT NULL CHECK (target IN ('agent', 'group')),
    target_id  TEXT NOT NULL,
    config_id  TEXT NOT NULL,
    version    INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, target, target_id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
) STRICT;
CREATE INDEX assignments_version ON assignments (tenant_id, config_id, version);

CREATE TABLE grants (
    tenant_id    TEXT NOT NULL,
    agent_id     TEXT NOT NULL,
    config_id    TEXT NOT NULL,
    version      INTEGER NOT NULL,
    offer_hash   BLOB NOT NULL,
    state        TEXT NOT NULL CHECK (state IN ('open', 'met', 'failed', 'closed')),
    reason       TEXT NOT NULL,
    generation   INTEGER NOT NULL,
    opened_at    INTEGER NOT NULL,
    -- Stamp of the status on record when it was opened: only a later word can fail it.
    seen_epoch    INTEGER NOT NULL DEFAULT 0,
    seen_sequence INTEGER NOT NULL DEFAULT 0,
    sent_at      INTEGER,
    delivered_at INTEGER,
    applying_at  INTEGER,
    settled_at   INTEGER,
    -- The gateway's last complaint while open.
    undelivered  TEXT NOT NULL DEFAULT '',
    message      TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, agent_id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
) STRICT;

CREATE TABLE attempts (
    tenant_id  TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    offer_hash BLOB NOT NULL,
    config_id  TEXT NOT NULL,
    version    INTEGER NOT NULL,
    outcome    TEXT NOT NULL CHECK (outcome IN ('offered', 'applying', 'applied', 'failed', 'rolled_back')),
    message    TEXT NOT NULL DEFAULT '',
    first_at   INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    cleared_at INTEGER,
    PRIMARY KEY (tenant_id, agent_id, offer_hash),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES agents (tenant_id, id),
    FOREIGN KEY (tenant_id, config_id, version) REFERENCES config_versions (tenant_id, config_id, version)
) STRICT;
CREATE INDEX attempts_last_good ON attempts (tenant_id, agent_id, last_at DESC) WHERE outcome = 'applied';

CREATE TABLE work (
    tenant_id TEXT NOT NULL,
    agent_id  TEXT NOT NULL,
    wake_at   INTEGER NOT NULL,
    version   INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (tenant_id, agent_id)
) STRICT;
CREATE INDEX work_due ON work (wake_at);

CREATE TABLE outbox (
    tenant_id  TEXT NOT NULL,
    agent_id   TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('config', 'full_state', 'close')),
    generation INTEGER NOT NULL DEFAULT 0,
    reason     TEXT NOT NULL DEFAULT '',
    due_at     INTEGER NOT NULL,
    tries      INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, agent_id, kind)
) STRICT;
CREATE INDEX outbox_due ON outbox (due_at);

CREATE TABLE partitions (
    partition   INTEGER PRIMARY KEY,
    holder      TEXT NOT NULL,
    epoch       INTEGER NOT NULL,
    lease_until INTEGER NOT NULL,
    position    TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE partition_counters (
    partition  INTEGER NOT NULL,
    gateway_id TEXT NOT NULL,
    boot_id    INTEGER NOT NULL,
    counter    INTEGER NOT NULL,
    PRIMARY KEY (partition, gateway_id)
) STRICT;

CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id  TEXT NOT NULL,
    at         INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    agent_id   TEXT,
    message    TEXT NOT NULL DEFAULT '',
    attributes TEXT NOT NULL DEFAULT '{}'
) STRICT;
CREATE INDEX events_stream ON events (tenant_id, id);
CREATE INDEX events_agent ON events (tenant_id, agent_id, id DESC) WHERE agent_id IS NOT NULL;
CREATE INDEX events_age ON events (at);

CREATE TABLE audit_events (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id   TEXT NOT NULL,
    at          INTEGER NOT NULL,
    actor_kind  TEXT NOT NULL,
    actor_id    TEXT NOT NULL,
    actor_name  TEXT NOT NULL,
    role        INTEGER NOT NULL,
    action      TEXT NOT NULL,
    entity_kind TEXT NOT NULL,
    entity_id   TEXT NOT NULL,
    before      TEXT,
    after       TEXT,
    source      TEXT NOT NULL DEFAULT '',
    trace_id    TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX audit_events_newest ON audit_events (tenant_id, at, id);
CREATE INDEX audit_events_entity ON audit_events (tenant_id, entity_id, at, id);

CREATE TABLE audit_refusals (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    tenant_id  TEXT NOT NULL,
    hour       INTEGER NOT NULL,
    actor_kind TEXT NOT NULL,
    actor_id   TEXT NOT NULL,
    actor_name TEXT NOT NULL,
    role       INTEGER NOT NULL,
    action     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    entity_id  TEXT NOT NULL DEFAULT '',
    count      INTEGER NOT NULL DEFAULT 1,
    last_at    INTEGER NOT NULL,
    source     TEXT NOT NULL DEFAULT '',
    trace_id   TEXT NOT NULL DEFAULT '',
    UNIQUE (tenant_id, hour, actor_id, action, reason, entity_id)
) STRICT;
CREATE INDEX audit_refusals_newest ON audit_refusals (tenant_id, last_at, id);
CREATE INDEX audit_refusals_entity ON audit_refusals (tenant_id, entity_id, last_at, id);
