-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Nothing: the bus of this name is on PostgreSQL, whose processes meet in their database. A database in SQLite belongs to
-- one process, and its bus is in memory. The number exists here because both backends count alike.

-- +goose Up
SELECT 1;
