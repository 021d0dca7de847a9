// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"maps"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

func TestTagChangesAreChecked(t *testing.T) {
	long := strings.Repeat("a", 300)
	for name, c := range map[string]struct {
		change fleet.TagChange
		ok     bool
	}{
		"set":             {fleet.TagChange{Set: map[string]string{"example.org/site_a-1": "Köln 1"}}, true},
		"an empty value":  {fleet.TagChange{Set: map[string]string{"canary": ""}}, true},
		"remove":          {fleet.TagChange{Remove: []string{"canary"}}, true},
		"nothing":         {fleet.TagChange{}, false},
		"no key":          {fleet.TagChange{Set: map[string]string{"": "x"}}, false},
		"a long key":      {fleet.TagChange{Set: map[string]string{long: "x"}}, false},
		"a long value":    {fleet.TagChange{Set: map[string]string{"a": long}}, false},
		"a key that ends": {fleet.TagChange{Remove: []string{"a-"}}, false},
		"an equals sign":  {fleet.TagChange{Set: map[string]string{"a=b": "x"}}, false},
		"a space":         {fleet.TagChange{Set: map[string]string{"a b": "x"}}, false},
		"two lines":       {fleet.TagChange{Set: map[string]string{"a": "x\ny"}}, false},
		"no text":         {fleet.TagChange{Set: map[string]string{"a": "\xff"}}, false},
		"both":            {fleet.TagChange{Set: map[string]string{"a": "x"}, Remove: []string{"a"}}, false},
	} {
		if err := c.change.Check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnOperatorHasTheLastWordOnTags(t *testing.T) {
	enrolment := func(value string) fleet.Tag { return fleet.Tag{Value: value, Origin: fleet.TagOfEnrolment} }
	before := map[string]fleet.Tag{"pool": enrolment("spot"), "site": enrolment("berlin"), "tier": enrolment("gold")}
	kept := maps.Clone(before)
	change := fleet.TagChange{Set: map[string]string{"site": "berlin"}, Remove: []string{"tier", "none"}}
	want := map[string]fleet.Tag{"pool": enrolment("spot"), "site": {Value: "berlin", Origin: fleet.TagOfOperator}}
	if got := change.Of(before); !maps.Equal(got, want) {
		t.Errorf("tags become %v, want %v", got, want)
	}
	if !maps.Equal(before, kept) {
		t.Error("the tags of before were changed")
	}
}
