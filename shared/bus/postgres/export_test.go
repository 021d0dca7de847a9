// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres

import "context"

// What tests of this package reach beside the contract.

// Fail is fail.
var Fail = fail

// OpenDeaf is Open for a bus that hears no bell.
func OpenDeaf(ctx context.Context, url string, options Options) (*Bus, error) {
	return open(ctx, url, options)
}
