// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"encoding/json"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// lastAudit is the newest record about an entity.
func (w *world) lastAudit(entity string) fleet.AuditRecord {
	w.Helper()
	records, _, err := w.AuditRecords(w.Context(), w.tenant, entity, fleet.Page{Size: 1})
	w.must(err)
	if len(records) == 0 {
		w.Fatalf("nothing in the audit log about %s", entity)
	}
	return records[0]
}

// wantAudit checks that the newest record about an entity is of this action, by whom, when and from where w.by() says.
func (w *world) wantAudit(entity, action string) {
	w.Helper()
	got, by := w.lastAudit(entity), w.by()
	p := by.Principal
	if got.Action != action || got.ActorKind != p.Kind || got.ActorID != p.ID || got.ActorName != p.Name || got.Role != p.Role ||
		!got.At.Equal(by.At) || got.Source != by.Source || got.TraceID != by.TraceID || got.Tenant != by.Tenant {
		w.Errorf("audit log: got %+v, want %s by %+v", got, action, by)
	}
}

// refuse counts a refusal of retrying a configuration.
func (w *world) refuse(reason, entity string) {
	w.Helper()
	w.must(w.RecordRefusal(w.Context(), fleet.Refusal{By: w.by(), Action: "agent.retry_config", Reason: reason, Entity: entity}))
}

var audit = suite{
	"what changes nothing else can be recorded": func(w *world) {
		w.must(w.RecordAudit(w.Context(), w.by(), "config_version.reveal", "config_version", "c/1"))
		w.wantAudit("c/1", "config_version.reveal")
		got := w.lastAudit("c/1")
		if got.EntityKind != "config_version" || got.Before != nil || got.After != nil || got.Count != 0 || got.RefusalReason != "" {
			w.Errorf("got %+v", got)
		}
	},
	"before and after are JSON objects": func(w *world) {
		g := w.group("web")
		w.must(w.DeleteGroup(w.Context(), w.by(), g.ID))
		var before map[string]any
		w.must(json.Unmarshal(w.lastAudit(string(g.ID)).Before, &before))
		if before["name"] != "web" {
			w.Errorf("got %v", before)
		}
	},
	"refusals are counted under actor, action, reason, entity and hour": func(w *world) {
		w.now = w.now.Truncate(time.Hour).Add(30 * time.Minute)
		w.refuse("PERMISSION_DENIED", "a1")
		w.pass(time.Minute)
		w.refuse("PERMISSION_DENIED", "a1")
		if got := w.lastAudit("a1"); got.Count != 2 || got.RefusalReason != "PERMISSION_DENIED" || !got.At.Equal(w.now) || got.Action != "agent.retry_config" {
			w.Errorf("got %+v", got)
		}
		w.refuse("PERMISSION_DENIED", "a2")
		w.refuse("OTHER", "a1")
		w.pass(time.Hour)
		w.refuse("PERMISSION_DENIED", "a1")
		records, _, err := w.AuditRecords(w.Context(), w.tenant, "", fleet.Page{Size: 10})
		w.must(err)
		if len(records) != 4 {
			w.Errorf("got %d records, want 4: %+v", len(records), records)
		}
	},
	"refusals that come at once are all counted": func(w *world) {
		atOnce(w, 8, func(int) (struct{}, error) {
			return struct{}{}, w.RecordRefusal(w.Context(), fleet.Refusal{By: w.by(), Action: "a", Reason: "R", Entity: "e"})
		})
		if got := w.lastAudit("e"); got.Count != 8 {
			w.Errorf("got %d", got.Count)
		}
	},
	"the log lists newest first, events and refusals together": func(w *world) {
		var want []string
		for i := range 3 {
			for range 2 { // of one moment
				w.must(w.RecordAudit(w.Context(), w.by(), "event", "thing", "t"))
			}
			w.refuse("REFUSAL", "t"+string(rune('0'+i)))
			want = append([]string{"REFUSAL", "event", "event"}, want...)
			w.pass(time.Minute)
		}
		w.in("theirs").refuse("REFUSAL", "t")
		list := pages(w, func(page fleet.Page) ([]fleet.AuditRecord, string, error) {
			return w.AuditRecords(w.Context(), w.tenant, "", page)
		})
		wantIDs(w, list, want, func(r fleet.AuditRecord) string {
			if r.RefusalReason != "" {
				return r.RefusalReason
			}
			return r.Action
		})
	},
	"an entity narrows the log": func(w *world) {
		w.must(w.RecordAudit(w.Context(), w.by(), "event", "thing", "t1"))
		w.must(w.RecordAudit(w.Context(), w.by(), "event", "thing", "t2"))
		w.refuse("REFUSAL", "t1")
		list := pages(w, func(page fleet.Page) ([]fleet.AuditRecord, string, error) {
			return w.AuditRecords(w.Context(), w.tenant, "t1", page)
		})
		wantIDs(w, list, []string{"t1", "t1"}, func(r fleet.AuditRecord) string { return r.EntityID })
	},
	"a broken page key is the key of nothing": func(w *world) {
		for _, key := range []string{"x", "1.", "1.x", "1.e", "1.ex"} {
			_, _, err := w.AuditRecords(w.Context(), w.tenant, "", fleet.Page{Size: 1, After: key})
			w.want(err, store.ErrNotFound)
		}
	},
}
