-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Agents renew their certificates: the same new key is given the same certificate again, and the key of the one that was
-- shown is no new one.

-- +goose Up

-- SHA-256 of the SubjectPublicKeyInfo; empty in certificates of before.
ALTER TABLE certificates ADD COLUMN public_key bytea NOT NULL DEFAULT '';
