// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import "gitlab.com/ampora/ampora/control/internal/fleet"

// ConfigRulePut is the entry of a rule that is new, or another than before.
func ConfigRulePut(before *fleet.ConfigRule, r fleet.ConfigRule) Entry {
	entry := Entry{Action: "config_rule.put", EntityKind: "config_rule", EntityID: r.ID, After: ruleFields(r)}
	if before != nil {
		entry.Before = ruleFields(*before)
	}
	return entry
}

// ConfigRuleDeleted is the entry of a rule that is gone.
func ConfigRuleDeleted(r fleet.ConfigRule) Entry {
	return Entry{Action: "config_rule.delete", EntityKind: "config_rule", EntityID: r.ID, Before: ruleFields(r)}
}

func ruleFields(r fleet.ConfigRule) Fields {
	return Fields{"severity": r.Severity, "expression": r.Expression, "message": r.Message, "fix": r.Fix}
}
