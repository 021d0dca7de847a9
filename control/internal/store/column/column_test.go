// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package column_test

import (
	"math"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store/column"
)

func TestBits(t *testing.T) {
	for number, kept := range map[uint64]int64{
		0: 0, 1: 1, math.MaxInt64: math.MaxInt64, math.MaxInt64 + 1: math.MinInt64, math.MaxUint64: -1,
	} {
		if got := column.Bits(number); got != kept || column.Unbits(got) != number {
			t.Errorf("%d is kept as %d, read back as %d", number, got, column.Unbits(got))
		}
	}
}

func TestParameters(t *testing.T) {
	const id = "0198c7a2-5b1e-7c3d-8e4f-a1b2c3d4e5f6"
	capabilities := fleet.Capabilities(math.MaxUint64)
	for name, c := range map[string]struct{ got, want any }{
		"no capabilities": {column.CapabilityBits(nil), nil},
		"capabilities":    {column.CapabilityBits(&capabilities), int64(-1)},
		"no group":        {column.OrNull(fleet.GroupID("")), nil},
		"a group":         {column.OrNull(fleet.GroupID("g")), "g"},
		"an id":           {column.IDOrNull(id), id},
		"an id, loudly":   {column.IDOrNull("0198C7A2-5B1E-7C3D-8E4F-A1B2C3D4E5F6"), id},
		"a name":          {column.IDOrNull("edge"), nil},
		"a name as long":  {column.IDOrNull("0198c7a2-5b1e-7c3d-8e4f-a1b2c3d4e5fx"), nil},
		"an id in braces": {column.IDOrNull("{" + id + "}"), nil},
		"no hyphens":      {column.IDOrNull("0198c7a25b1e7c3d8e4fa1b2c3d4e5f6"), nil},
		"nothing":         {column.IDOrNull(""), nil},
		"no hash":         {column.HashOrNull(fleet.ContentHash{}), nil},
		"past a prefix":   {column.PrefixEnd("ed"), "ed\U0010FFFF"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %#v, want %#v", name, c.got, c.want)
		}
	}
}

func TestNotNull(t *testing.T) {
	if got := column.NotNull[string](nil); got == nil || len(got) != 0 {
		t.Errorf("nil became %#v", got)
	}
	if got := column.NotNullMap[string, string](nil); got == nil || len(got) != 0 {
		t.Errorf("no map became %#v", got)
	}
	if got := column.NotNullMap(map[string]int{"a": 1}); len(got) != 1 || got["a"] != 1 {
		t.Errorf("a map became %#v", got)
	}
	if got := column.NotNull([]string{"a"}); len(got) != 1 || got[0] != "a" {
		t.Errorf("a list became %#v", got)
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct {
		target   fleet.Target
		kind, id string
	}{
		{fleet.Target{Agent: "a"}, column.TargetAgent, "a"},
		{fleet.Target{Group: "g"}, column.TargetGroup, "g"},
		{fleet.Target{Agent: "a", Default: true}, column.TargetDefault, "a"},
	} {
		kind, id := column.Target(c.target)
		if kind != c.kind || id != c.id || column.TargetOf(kind, id) != c.target {
			t.Errorf("%+v is kept as %s %s, read back as %+v", c.target, kind, id, column.TargetOf(kind, id))
		}
	}
}
