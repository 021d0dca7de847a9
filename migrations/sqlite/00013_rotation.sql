-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- As on PostgreSQL, whose file says why. SQLite knows no privileges.

-- +goose Up

SELECT 1;
