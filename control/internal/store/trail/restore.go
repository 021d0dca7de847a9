// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// EndRestored is the end reason of sessions that may have gone on after a backup.
const EndRestored = "RESTORED"

// Restored is what a tenant is told of a database that was put back.
func Restored(v store.Voided) Entry {
	return Entry{
		Action: "installation.after_restore", EntityKind: "installation",
		After: Fields{"sessions": v.Sessions, "bootstrap_tokens": v.BootstrapTokens, "join_tokens": v.JoinTokens},
	}
}

// RevocationListImported is the entry of a list that was published before the database was put back.
func RevocationListImported(l fleet.RevocationList, i store.Imported) Entry {
	return Entry{
		Action: "revocation_list.import", EntityKind: "signing_key", EntityID: string(l.Key),
		After: Fields{"number": l.Number, "this_update": l.ThisUpdate.UTC(), "revoked": i.Revoked, "unknown": i.Unknown},
	}
}
