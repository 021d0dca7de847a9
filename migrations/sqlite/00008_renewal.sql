-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why.

-- +goose Up

ALTER TABLE certificates ADD COLUMN public_key BLOB NOT NULL DEFAULT x'';
