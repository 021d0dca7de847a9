// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

// What tests of this package reach besides the contract.
var Fail = fail

// InTenant is inTenant.
var InTenant = (*Store).inTenant

// Reading is reading.
var Reading = (*Store).reading

// FailCommit is failCommit.
var FailCommit = failCommit

// AsWorker is asWorker.
var AsWorker = (*Store).asWorker

// FindUpkeep and SelectUpkeep are the queries of DueUpkeep.
const (
	FindUpkeep   = findUpkeep
	SelectUpkeep = selectUpkeep
)

// Matching is the query for the ids that a filter selects.
var Matching = matching
