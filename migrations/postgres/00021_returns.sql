-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- A bootstrap token may be for an identity that exists: an agent whose certificate is over comes back by it under its id.

-- +goose Up

ALTER TABLE bootstrap_tokens
    -- Empty: the token makes a new identity.
    ADD COLUMN for_agent_id uuid,
    -- What is good of the identity's certificates is revoked when it comes back.
    ADD COLUMN replaces boolean NOT NULL DEFAULT false,
    ADD FOREIGN KEY (tenant_id, for_agent_id) REFERENCES agents (tenant_id, id),
    ADD CHECK (for_agent_id IS NULL OR group_id IS NULL AND pool_id IS NULL),
    ADD CHECK (for_agent_id IS NOT NULL OR NOT replaces);
CREATE INDEX bootstrap_tokens_for_agent ON bootstrap_tokens (tenant_id, for_agent_id) WHERE for_agent_id IS NOT NULL;
