// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// sameAsParser fails unless the nodes of a body are what the parser decodes it to.
func sameAsParser(t interface{ Fatalf(string, ...any) }, body []byte) {
	root, err := readRoot(body)
	if err != nil {
		return
	}
	var want any
	if err := yaml.Unmarshal(body, &want); err != nil {
		t.Fatalf("%v", err)
	}
	if got, want := spell(resolve(root)), flat(want); !reflect.DeepEqual(got, want) {
		t.Fatalf("read %#v, the parser reads %#v, of\n%s", got, want, body)
	}
}

// spell and flat spell a tree in one way, each from its own side.
func spell(n *Node) any {
	switch n.Kind {
	case List:
		list := []any{}
		for _, item := range n.Items {
			list = append(list, spell(item))
		}
		return list
	case Map:
		m := map[string]any{}
		for _, f := range n.Fields {
			m[f.Key] = spell(f.Value)
		}
		return m
	default:
		return fmt.Sprintf("%d %s", n.Kind, n.Text)
	}
}

func flat(value any) any {
	spelled := func(k Kind, v any) string { return fmt.Sprintf("%d %v", k, v) }
	switch v := value.(type) {
	case nil:
		return spelled(Null, "")
	case bool:
		return spelled(Bool, v)
	case float64:
		return spelled(Float, v)
	case string:
		return spelled(String, v)
	case time.Time:
		return spelled(Time, v.Format(time.RFC3339Nano))
	case []any:
		list := []any{}
		for _, item := range v {
			list = append(list, flat(item))
		}
		return list
	case map[string]any:
		m := map[string]any{}
		for key, item := range v {
			m[key] = flat(item)
		}
		return m
	case map[any]any:
		m := map[string]any{}
		for key, item := range v {
			m[keyText(key)] = flat(item)
		}
		return m
	default:
		return spelled(Int, v)
	}
}

func keyText(key any) string {
	switch v := key.(type) {
	case nil:
		return ""
	case time.Time:
		return v.Format(time.RFC3339Nano)
	default:
		return fmt.Sprint(v)
	}
}

func TestValuesAreReadAsTheParserDoes(t *testing.T) {
	for _, body := range []string{
		pipeline,
		"a: &x {b: 1, c: 2}\nd: {<<: *x, c: 3}\ne: {<<: [*x, {b: 4, f: 5}], f: 6}\n",
		"a: {<<: {b: 1}, b: 2}\n",
		"a: [0x10, 0o7, 1_000, 1e3, .inf, -.Inf, .nan, 0b11, 18446744073709551615, -0]\n",
		"a: [yes, No, on, TRUE, False, ~, null, Null, '', !!str 1, !!int '3', !!float 1, !!binary aGVsbG8=]\n",
		"a: [2001-12-14t21:59:43.10-05:00, 2002-12-14, '2002-12-14']\n",
		"a: {1: x, true: y, 2002-12-14: z, 2.5: u, ~: v}\n",
		"a: |\n  text\n  more\nb: >-\n  folded\n  text\n",
		"a: &a b\n*a : c\n",
		"<<: {a: 1}\nb: 2\n",
		"a: !local {b: !other c}\n",
		"k: &m {a: 1}\nl: [&n {b: 2}, *m, *n]\nm: {<<: [*m, *n]}\n",
	} {
		if _, err := readRoot([]byte(body)); err != nil {
			t.Errorf("%v in %s", err, body)
			continue
		}
		sameAsParser(t, []byte(body))
	}
}
