// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import "gitlab.com/ampora/ampora/control/internal/fleet"

// APITokenCreated is the entry of a new API token.
func APITokenCreated(t fleet.APIToken) Entry {
	procedures := t.Procedures
	if procedures == nil {
		procedures = []string{} // [] in the log, not null
	}
	return Entry{
		Action: "api_token.create", EntityKind: "api_token", EntityID: string(t.ID),
		After: Fields{"name": t.Name, "role": t.Role.String(), "procedures": procedures, "expires_at": t.ExpiresAt},
	}
}

// APITokenRevoked is the entry of an API token that is not valid any more.
func APITokenRevoked(t fleet.APIToken) Entry {
	return Entry{
		Action: "api_token.revoke", EntityKind: "api_token", EntityID: string(t.ID), After: Fields{"name": t.Name},
	}
}

// BootstrapTokenIssued is the entry of a new bootstrap token, by an operator or by a pool.
func BootstrapTokenIssued(t fleet.BootstrapToken) Entry {
	after := Fields{"group": t.Group, "description": t.Description, "expires_at": t.ExpiresAt}
	if t.Pool != "" {
		after["pool"] = t.PoolName
	}
	if len(t.Tags) > 0 {
		after["tags"] = t.Tags
	}
	if t.For != "" {
		after["agent"], after["replace"] = t.For, t.Replaces
	}
	return Entry{Action: "bootstrap_token.issue", EntityKind: "bootstrap_token", EntityID: string(t.ID), After: after}
}

// BootstrapTokenRevoked is the entry of a bootstrap token that is not valid any more.
func BootstrapTokenRevoked(id fleet.TokenID) Entry {
	return Entry{Action: "bootstrap_token.revoke", EntityKind: "bootstrap_token", EntityID: string(id)}
}
