-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- Keys of certificate authorities in key services, and certificates of authorities whose keys others have.

-- +goose Up

-- key_uri names a key in a key service, without secrets; sealed_key is empty then. Both are empty for a root that is
-- trusted and whose key is not ours: it is never active.
ALTER TABLE signing_keys ADD COLUMN key_uri text NOT NULL DEFAULT '';
ALTER TABLE signing_keys ADD CONSTRAINT signing_keys_one_place CHECK (key_uri = '' OR length(sealed_key) = 0);
