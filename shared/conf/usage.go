// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"fmt"
	"reflect"
	"strings"
)

// Usage describes every variable of T in the order of its fields: name, form,
// default, whether it is required or a secret, and its help tag. It panics as
// [Load] does.
func Usage[T any]() string {
	var out strings.Builder
	for _, v := range variablesOf(reflect.TypeFor[T]()) {
		fmt.Fprintf(&out, "%s\n    %s\n", v.name, strings.Join(v.properties(), "; "))
		if help := v.tag.Get("help"); help != "" {
			fmt.Fprintf(&out, "    %s\n", help)
		}
	}
	return out.String()
}

func (v variable) properties() []string {
	properties := []string{v.form}
	if v.secret {
		properties = append(properties, "secret, may be in a file named by "+v.name+fileSuffix)
	}
	value, defaulted := v.tag.Lookup("envDefault")
	switch {
	case v.required:
		properties = append(properties, "required")
	case defaulted && v.secret:
		properties = append(properties, "has a default")
	case defaulted && value != "":
		properties = append(properties, "default "+value)
	}
	return properties
}
