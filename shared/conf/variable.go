// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"encoding"
	"fmt"
	"net/url"
	"reflect"
	"strings"
	"time"
)

// variable is a field of the struct that is read from the environment.
type variable struct {
	name      string // with the prefix
	prefix    string // of the structs around it
	index     []int  // for reflect.Value.FieldByIndex
	tag       reflect.StructTag
	form      string // what a value looks like, as a noun phrase
	required  bool
	secret    bool
	ownParser bool // the type reads its text itself and explains what is wrong
}

// variablesOf lists the variables of a struct in the order of its fields.
func variablesOf(t reflect.Type) []variable {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("conf: %v is no struct", t))
	}
	variables := walk(t, nil, "")
	names := map[string]bool{}
	for _, v := range variables {
		for _, name := range v.names() {
			if names[name] || !strings.HasPrefix(name, Prefix) {
				panic(fmt.Sprintf("conf: %v declares %s twice or without the prefix %s", t, name, Prefix))
			}
			names[name] = true
		}
	}
	return variables
}

func walk(t reflect.Type, index []int, prefix string) []variable {
	var variables []variable
	for i := range t.NumField() {
		field := t.Field(i)
		at := append(append([]int(nil), index...), i)
		tag, tagged := field.Tag.Lookup("env")
		switch {
		case !field.IsExported():
		case tagged:
			variables = append(variables, newVariable(field, tag, at, prefix))
		case field.Type.Kind() == reflect.Struct:
			variables = append(variables, walk(field.Type, at, prefix+field.Tag.Get("envPrefix"))...)
		}
	}
	return variables
}

func newVariable(field reflect.StructField, tag string, index []int, prefix string) variable {
	name, options, _ := strings.Cut(tag, ",")
	_, own := reflect.New(field.Type).Interface().(encoding.TextUnmarshaler)
	return variable{
		name:      prefix + name,
		prefix:    prefix,
		index:     index,
		tag:       field.Tag,
		form:      formOf(field.Type),
		required:  strings.Contains(options, "required") || strings.Contains(options, "notEmpty"),
		secret:    field.Type == reflect.TypeFor[Secret]() || field.Tag.Get("secret") == "true",
		ownParser: own,
	}
}

// names are those under which the variable may be given.
func (v variable) names() []string {
	if v.secret {
		return []string{v.name, v.name + fileSuffix}
	}
	return []string{v.name}
}

func (v variable) alternative() string {
	if v.secret {
		return ", nor is " + v.name + fileSuffix
	}
	return ""
}

// formOf describes the text of a type to somebody who has to write one.
func formOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Secret]():
		return "text"
	case reflect.TypeFor[time.Duration]():
		return "a duration such as 30s"
	case reflect.TypeFor[url.URL](), reflect.TypeFor[*url.URL]():
		return "a URL"
	}
	if _, own := reflect.New(t).Interface().(encoding.TextUnmarshaler); own {
		return "a " + strings.ToLower(t.Name())
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "a whole number not below 0"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list, separated by commas"
	case reflect.Map:
		return "a list of key:value, separated by commas"
	}
	return "text"
}
