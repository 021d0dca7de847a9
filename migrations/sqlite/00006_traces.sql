-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- +goose Up
-- The trace in which the engine was woken and in which something is to be sent, where it is recorded: a W3C traceparent.
ALTER TABLE work ADD COLUMN traceparent TEXT NOT NULL DEFAULT '';
ALTER TABLE outbox ADD COLUMN traceparent TEXT NOT NULL DEFAULT '';
