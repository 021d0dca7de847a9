-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- A large fleet is searched, and an agent that flaps does not fill the history.

-- +goose Up

-- Of a fleet few are away. What else is searched needs no index of its own: whom many match is found soon on the way
-- through the ids, and that way to its end takes a fraction of what each further index would cost every session.
CREATE INDEX agents_away ON agents (tenant_id, id) WHERE epoch = 0 OR ended_at IS NOT NULL;

-- Who shall get what is searched.
ALTER TABLE deliveries ADD COLUMN config_id uuid, ADD COLUMN version integer NOT NULL DEFAULT 0;
-- Whoever migrates sees no rows of tenants while the policies are forced.
ALTER TABLE deliveries NO FORCE ROW LEVEL SECURITY;
UPDATE deliveries SET config_id = nullif(delivery -> 'Desired' ->> 'Config', '')::uuid, version = (delivery -> 'Desired' ->> 'Version')::integer
WHERE delivery -> 'Desired' ->> 'Version' IS NOT NULL;
ALTER TABLE deliveries FORCE ROW LEVEL SECURITY;

-- How many changes of the agent were told in the hour that began then, and how many were not.
ALTER TABLE agents ADD COLUMN told_hour timestamptz, ADD COLUMN told integer NOT NULL DEFAULT 0, ADD COLUMN untold integer NOT NULL DEFAULT 0;

-- What is assigned to the agent is to be sent once more.
ALTER TABLE work ADD COLUMN push boolean NOT NULL DEFAULT false;

-- A restart command is sent at most once: its row goes before it is sent, or when its time is over.
ALTER TABLE outbox DROP CONSTRAINT outbox_kind_check;
ALTER TABLE outbox ADD CONSTRAINT outbox_kind_check CHECK (kind IN ('config', 'full_state', 'close', 'renew', 'restart'));
ALTER TABLE outbox ADD COLUMN expires_at timestamptz;
