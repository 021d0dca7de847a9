-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- The ledger says of a version that another took its place before the agent's last word on it.

-- +goose Up

-- Every row has an outcome of the shorter list: nothing is to be looked through.
ALTER TABLE attempts DROP CONSTRAINT attempts_outcome_check;
ALTER TABLE attempts ADD CONSTRAINT attempts_outcome_check
    CHECK (outcome IN ('offered', 'applying', 'applied', 'failed', 'rolled_back', 'superseded')) NOT VALID;
