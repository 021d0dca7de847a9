-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- The master key is rotated: what is wrapped under it is wrapped anew, the secrets among the settings too.

-- +goose Up

GRANT UPDATE (value) ON settings TO ampora_worker;
