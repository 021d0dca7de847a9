// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package conf reads the configuration of a program from AMPORA_* variables into
// one documented struct.
//
// The struct is the operator's manual: each field names its variable, default and
// meaning in tags,
//
//	HTTPAddr string      `env:"AMPORA_HTTP_ADDR" envDefault:"127.0.0.1:8080" help:"Where the API listens."`
//	MasterKey conf.Secret `env:"AMPORA_MASTER_KEY,required" help:"Base64 of 32 bytes."`
//
// with the tags of github.com/caarlos0/env, which parses the values. Structs
// nest, with an envPrefix or without. A field is a secret if it is a [Secret] or
// tagged secret:"true"; it may then also be given as NAME_FILE, the path of a
// file that holds the value.
//
// Its guarantees: a program gets a configuration that is complete and passed its
// own Validate, or an [Error] with every problem found, one sentence each, naming
// the variable; the value of a secret never shows in an error, a note or the usage,
// and that of a [Secret] not in logs or JSON either; a variable that is a slip away from one of the
// program's is an error, because a misspelt setting would otherwise be a silent
// default, and any other AMPORA_* variable that it does not know is a note, because
// programs may share an environment. An empty value counts as none.
package conf

import (
	"errors"
	"fmt"
	"reflect"
	"strings"

	"github.com/caarlos0/env/v11"
)

// Prefix is that of every variable which belongs to us.
const Prefix = "AMPORA_"

// Error is everything that is wrong with a configuration: sentences for the
// operator, without secrets.
type Error struct{ Problems []string }

// Error is the problem, or a list of them.
func (e *Error) Error() string {
	if len(e.Problems) == 1 {
		return "the configuration is wrong: " + e.Problems[0]
	}
	return fmt.Sprintf("the configuration is wrong in %d places:\n  - %s", len(e.Problems), strings.Join(e.Problems, "\n  - "))
}

// Load reads a T from an environment in the form of os.Environ. If T or *T has a
// method Validate() error, it is called once all values were read, to refuse
// contradictions; each error that it joins becomes a problem of its own. The notes
// are sentences worth a warning in the log. The error is nil or an [Error].
//
// It panics where T is no struct or its tags contradict themselves.
func Load[T any](environ []string) (loaded T, notes []string, err error) {
	l := &loader{values: ours(environ)}
	variables := variablesOf(reflect.TypeFor[T]())
	target := reflect.ValueOf(&loaded).Elem()
	for _, v := range variables {
		l.load(v, target.FieldByIndex(v.index))
	}
	if len(l.problems) == 0 {
		l.validate(&loaded)
	}
	l.refuseUnknown(variables)
	if len(l.problems) > 0 {
		var none T
		return none, l.notes, &Error{Problems: l.problems}
	}
	return loaded, l.notes, nil
}

type loader struct {
	values          map[string]string
	problems, notes []string
}

// ours picks our variables that have a value. Of a repeated one the first counts,
// as in os.Getenv.
func ours(environ []string) map[string]string {
	values := make(map[string]string)
	for _, setting := range environ {
		name, value, _ := strings.Cut(setting, "=")
		if _, repeated := values[name]; !repeated && strings.HasPrefix(name, Prefix) {
			values[name] = value
		}
	}
	for name, value := range values {
		if value == "" {
			delete(values, name)
		}
	}
	return values
}

func (l *loader) problem(format string, args ...any) {
	l.problems = append(l.problems, fmt.Sprintf(format, args...))
}

func (l *loader) note(format string, args ...any) {
	l.notes = append(l.notes, fmt.Sprintf(format, args...))
}

// load parses one variable by itself, as a struct of that one field, so that a
// parse error can only be about it.
func (l *loader) load(v variable, field reflect.Value) {
	environment := make(map[string]string, 1)
	if value, found := l.values[v.name]; found {
		environment[v.name] = value
	}
	if v.secret && !l.loadFile(v, environment) {
		return
	}
	alone := reflect.New(reflect.StructOf([]reflect.StructField{{Name: "Value", Type: field.Type(), Tag: v.tag}}))
	err := env.ParseWithOptions(alone.Interface(), env.Options{Environment: environment, Prefix: v.prefix})
	if err != nil {
		l.problems = append(l.problems, v.refusal(environment[v.name], err))
		return
	}
	field.Set(alone.Elem().Field(0))
}

// refusal puts a parse error into a sentence. Of the errors of parsers only those
// of types with a parser of their own say more than that the text is wrong, and
// none is safe to show for a secret.
func (v variable) refusal(value string, err error) string {
	var parse env.ParseError
	switch {
	case errors.As(err, new(env.VarIsNotSetError)), errors.As(err, new(env.EmptyVarError)):
		return v.name + " is required and not set" + v.alternative()
	case !errors.As(err, &parse):
		panic(fmt.Sprintf("conf: the field of %s cannot be read: %v", v.name, reflect.TypeOf(err)))
	case v.secret:
		return fmt.Sprintf("%s is not %s (its value is not shown)", v.name, v.form)
	case v.ownParser:
		return fmt.Sprintf("%s is %q: %v", v.name, shorten(value), parse.Err)
	}
	return fmt.Sprintf("%s is %q, want %s", v.name, shorten(value), v.form)
}

func shorten(value string) string {
	const limit = 100
	if len(value) <= limit {
		return value
	}
	return value[:limit] + "…"
}

func (l *loader) validate(loaded any) {
	validator, ok := loaded.(interface{ Validate() error })
	if !ok {
		return
	}
	err := validator.Validate()
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			l.problem("%v", err)
		}
		return
	}
	if err != nil {
		l.problem("%v", err)
	}
}
