// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// ConfigRule is something that a tenant forbids in configurations of the Collector.
type ConfigRule struct {
	Tenant TenantID
	// ID is what findings name; unique in the tenant.
	ID string
	// Severity is "error", "warning" or "info"; an error is not published.
	Severity string
	// Expression is CEL, true where the rule is violated.
	Expression string
	Message    string
	Fix        string
	ChangedBy  string
	ChangedAt  time.Time
}

// MaxConfigRules is how many a tenant can have: each is asked of every configuration that is checked.
const MaxConfigRules = 100
