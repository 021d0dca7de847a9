// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"strings"
	"time"

	"buf.build/go/protovalidate"
	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"

	"gitlab.com/ampora/ampora/shared/fault"
)

// ReasonInvalidField says that a field of the request breaks a rule of its message. The metadata has the paths of the fields,
// each with the rule it breaks.
const ReasonInvalidField = "INVALID_FIELD"

// maxViolations is how many broken rules one answer names.
const maxViolations = 16

// InvalidField refuses one field, as the rules of the messages do, for rules that a message cannot state.
func InvalidField(path, problem string) *fault.Error {
	return fault.New(fault.Invalid, ReasonInvalidField, "%s: %s", path, problem).With(path, problem)
}

// validatedStream checks each request by the rules of its message.
type validatedStream struct {
	connect.ServerStream
	rules protovalidate.Validator
}

// Receive reads the next request and fails if it breaks a rule.
func (s *validatedStream) Receive(request any) error {
	if err := s.ServerStream.Receive(request); err != nil {
		return err
	}
	message, ok := request.(proto.Message)
	if !ok {
		return errors.New("auth: a request that is no protobuf message cannot be validated")
	}
	if err := invalidFields(s.rules.Validate(message)); err != nil {
		return err
	}
	return withoutNUL(message)
}

// withoutNUL refuses U+0000 in any text of a request: PostgreSQL's text cannot hold it.
func withoutNUL(message proto.Message) error {
	return protorange.Range(message.ProtoReflect(), func(at protopath.Values) error { //nolint:wrapcheck // a fault already
		here := at.Index(-1)
		text, _ := here.Value.Interface().(string)
		if here.Step.Kind() == protopath.MapIndexStep {
			text += here.Step.MapIndex().String()
		}
		if strings.ContainsRune(text, 0) {
			return InvalidField(strings.TrimPrefix(at.Path[1:].String(), "."), "must not contain U+0000")
		}
		return nil
	})
}

func invalidFields(err error) error {
	var broken *protovalidate.ValidationError
	if !errors.As(err, &broken) || len(broken.Violations) == 0 {
		return err
	}
	answer := InvalidField(violation(broken.Violations[0]))
	for _, v := range broken.Violations[1:min(len(broken.Violations), maxViolations)] {
		answer = answer.With(violation(v))
	}
	return answer
}

// violation is the path of a field and what is wrong with it. A rule of a whole message has the path "request".
func violation(v *protovalidate.Violation) (path, problem string) {
	path, problem = protovalidate.FieldPathString(v.Proto.GetField()), v.Proto.GetMessage()
	if path == "" {
		path = "request"
	}
	if problem == "" {
		problem = v.Proto.GetRuleId()
	}
	return path, problem
}

// recheckedStream admits its caller anew before it sends, if the last time was long ago.
type recheckedStream struct {
	connect.ServerStream
	recheck func() error
	now     func() time.Time
	last    time.Time
}

// Send sends a response, or fails with why the caller is no longer admitted.
func (s *recheckedStream) Send(response any) error {
	if now := s.now(); now.Sub(s.last) >= RecheckInterval {
		if err := s.recheck(); err != nil {
			return err
		}
		s.last = now
	}
	return s.ServerStream.Send(response)
}
