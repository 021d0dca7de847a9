-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Certificates are revoked for a reason.

-- +goose Up

-- A CRLReason by its number (RFC 5280, section 5.3.1).
ALTER TABLE certificates ADD COLUMN revocation_reason smallint NOT NULL DEFAULT 0;
