// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import "gitlab.com/ampora/ampora/control/internal/fleet"

// SchedulePut is the entry of a schedule that is new, or another than before.
func SchedulePut(before *fleet.Schedule, s fleet.Schedule) Entry {
	entry := Entry{Action: "schedule.put", EntityKind: "schedule", EntityID: string(s.ID), After: scheduleFields(s)}
	if before != nil {
		entry.Before = scheduleFields(*before)
	}
	return entry
}

// ScheduleDeleted is the entry of a schedule that is gone.
func ScheduleDeleted(s fleet.Schedule) Entry {
	return Entry{Action: "schedule.delete", EntityKind: "schedule", EntityID: string(s.ID), Before: scheduleFields(s)}
}

func scheduleFields(s fleet.Schedule) Fields {
	fields := Fields{"name": s.Name, "kind": s.Kind, "zone": s.Zone}
	if len(s.Groups) > 0 {
		fields["groups"] = s.Groups
	}
	for name, text := range map[string]string{"cron": s.Cron, "rule": s.Rule} {
		if text != "" {
			fields[name] = text
		}
	}
	if !s.From.IsZero() {
		fields["from"] = s.From.UTC()
	}
	if !s.Until.IsZero() {
		fields["until"] = s.Until.UTC()
	}
	if s.Length > 0 {
		fields["length"] = s.Length.String()
	}
	return fields
}

// BudgetPut is the entry of a disruption budget that is new, or another than before.
func BudgetPut(before *fleet.Budget, b fleet.Budget) Entry {
	entry := Entry{Action: "budget.put", EntityKind: "budget", EntityID: string(b.ID), After: budgetFields(b)}
	if before != nil {
		entry.Before = budgetFields(*before)
	}
	return entry
}

// BudgetDeleted is the entry of a disruption budget that is gone.
func BudgetDeleted(b fleet.Budget) Entry {
	return Entry{Action: "budget.delete", EntityKind: "budget", EntityID: string(b.ID), Before: budgetFields(b)}
}

func budgetFields(b fleet.Budget) Fields {
	return Fields{"name": b.Name, "label": b.Label, "most": b.Most}
}
