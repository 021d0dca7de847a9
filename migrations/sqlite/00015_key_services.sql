-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

ALTER TABLE signing_keys ADD COLUMN key_uri TEXT NOT NULL DEFAULT '' CHECK (key_uri = '' OR length(sealed_key) = 0);
