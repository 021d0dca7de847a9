// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"regexp"
	"slices"
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// wrapped is how columns are named that hold what is wrapped under the master key. What is sealed under a tenant's data
// key, such as bodies.sealed, is not.
var wrapped = regexp.MustCompile(`\.(sealed_.*|wrapped.*|.*data_key.*)$`)

// WantDeclared holds the names of a schema, each table.column, to fleet.WrappedColumns: what a rotation of the master key
// does not know, it makes unreadable. The wrapped ones among the settings are in no schema; the control plane's own test
// looks for them.
func WantDeclared(t *testing.T, columns []string) {
	t.Helper()
	var declared []string
	for _, c := range fleet.WrappedColumns {
		declared = append(declared, c.Table+"."+c.Column)
		for _, name := range []string{c.Column, c.Key, c.Tenant} {
			if name != "" && !slices.Contains(columns, c.Table+"."+name) {
				t.Errorf("%s is declared to be in %s.%s, which is not there", c.Purpose, c.Table, name)
			}
		}
		if c.Purpose == "" || c.Key == "" || (c.Tenant == "") == (c.Only == "") {
			t.Errorf("%+v: a column is of tenants, or holds one record of the installation", c)
		}
	}
	for _, column := range columns {
		if wrapped.MatchString(column) && !slices.Contains(declared, column) {
			t.Errorf("%s looks like one that is wrapped under the master key, and fleet.WrappedColumns does not declare it", column)
		}
	}
}
