// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"fmt"
	"reflect"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

func (w *world) rule(id string) fleet.ConfigRule {
	w.Helper()
	r := fleet.ConfigRule{Tenant: w.tenant, ID: id, Severity: "error", Expression: "true", Message: "no", Fix: "do not", ChangedBy: "ci", ChangedAt: w.now}
	put, err := w.PutConfigRule(w.Context(), w.by(), r)
	w.must(err)
	if put != r {
		w.Errorf("put %+v, want %+v", put, r)
	}
	return r
}

func (w *world) wantRules(want ...fleet.ConfigRule) {
	w.Helper()
	got, err := w.ConfigRules(w.Context(), w.tenant)
	w.must(err)
	if len(got) != len(want) || len(got) > 0 && !reflect.DeepEqual(got, want) {
		w.Errorf("got %+v, want %+v", got, want)
	}
}

// configRules is store.ConfigRules.
var configRules = suite{
	"rules are listed by id, those of the tenant alone": func(w *world) {
		w.wantRules()
		b, a := w.rule("b"), w.rule("a-rule")
		w.in("theirs").rule("c")
		w.wantRules(a, b)
		w.wantAudit("a-rule", "config_rule.put")
	},
	"a rule takes the place of the one with its id": func(w *world) {
		r := w.rule("a")
		w.pass(time.Minute)
		r.Severity, r.Expression, r.Message, r.Fix, r.ChangedAt = "info", "false", "perhaps", "", w.now
		put, err := w.PutConfigRule(w.Context(), w.by(), r)
		w.must(err)
		if put != r {
			w.Errorf("put %+v", put)
		}
		w.wantRules(r)
	},
	"a rule is deleted once": func(w *world) {
		w.rule("a")
		w.in("theirs").rule("b")
		w.want(w.DeleteConfigRule(w.Context(), w.by(), "b"), store.ErrNotFound)
		w.must(w.DeleteConfigRule(w.Context(), w.by(), "a"))
		w.wantAudit("a", "config_rule.delete")
		w.want(w.DeleteConfigRule(w.Context(), w.by(), "a"), store.ErrNotFound)
		w.wantRules()
	},
	"a tenant has only so many rules": func(w *world) {
		for i := range fleet.MaxConfigRules - 1 {
			w.rule(fmt.Sprintf("rule-%02d", i))
		}
		won, lost := race(4, func(i int) (fleet.ConfigRule, error) {
			return w.PutConfigRule(w.Context(), w.by(), fleet.ConfigRule{ID: fmt.Sprint("more-", i), Severity: "error", Expression: "true", Message: "m"})
		})
		if len(won) != 1 {
			w.Errorf("%d more were stored", len(won))
		}
		for _, err := range lost {
			w.want(err, store.ErrState)
		}
		w.rule("rule-00") // one that is there may still be changed
		w.in("theirs").rule("a")
	},
}
