// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons for which a template is not rendered.
const (
	// ReasonTemplateInvalid: a reference in it is not one of the forms that [Template] knows.
	ReasonTemplateInvalid = "TEMPLATE_INVALID"
	// ReasonTemplateValue: a value that it asks for is not known and has no default, or cannot stand in its place.
	ReasonTemplateValue = "TEMPLATE_VALUE"
)

// longestValue bounds what is put in the place of a reference, in bytes.
const longestValue = 1024

// marker begins a reference. It has the form of the Collector's own, whose provider of this name does not exist: what is
// not rendered does not run.
const marker = "${ampora:"

// placeholder is a reference: what it asks for, and what stands there if that is not known.
var placeholder = regexp.MustCompile(`^\$\{ampora:(tag|label|agent):([A-Za-z0-9](?:[A-Za-z0-9._/-]{0,126}[A-Za-z0-9])?)(:-([^{}$\x00-\x1f]*))?\}`)

// Template is a configuration that asks for what is known of the agent that gets it:
//
//	${ampora:tag:region}            a tag, which an operator or the agent's enrolment gave it
//	${ampora:label:host.name}       a label, which is what the agent says of itself
//	${ampora:agent:id}              id, service_name, service_version, host_name or group
//	${ampora:tag:region:-eu-1}      with a default
//
// A reference may stand in any value, alone or in a longer text. $${ampora:…} is text, as for the Collector.
type Template struct {
	body  []byte
	parts []part
	root  *yaml.Node
}

// part is text as it is, or a reference (Source is set) and its text.
type part struct {
	text string
	TemplateReference
}

// TemplateReference is what a template asks for.
type TemplateReference struct {
	Source, Key string
	Default     *string // nil: there is none
}

// Known answers what a template asks for; ok is false if it is not known.
type Known func(source, key string) (value string, ok bool)

// IsTemplate reports whether a body asks for anything, in whatever form.
func IsTemplate(body []byte) bool { return len(markersIn(string(body))) > 0 }

// markersIn are the places where references begin in a text.
func markersIn(text string) (at []int) {
	for i := strings.IndexByte(text, '$'); i >= 0 && i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "$$"):
			i++
		case strings.HasPrefix(text[i:], marker):
			at = append(at, i)
		}
	}
	return at
}

// ParseTemplate reads a template. Errors are those of [CheckMapping], and ReasonTemplateInvalid with the reference.
func ParseTemplate(body []byte) (*Template, error) {
	if err := CheckMapping(body); err != nil {
		return nil, err
	}
	root, err := onlyRoot(body)
	if err != nil {
		return nil, err
	}
	parts, wrong := cut(string(body))
	if wrong != "" {
		return nil, fault.New(fault.Invalid, ReasonTemplateInvalid, "%s is no reference to what is known of an agent", quoted(wrong)).With("reference", clip(wrong, longestPart))
	}
	return &Template{body: body, parts: parts, root: root}, nil
}

// cut parts a text into references and what is between them. wrong is the first that has none of the forms.
func cut(text string) (parts []part, wrong string) {
	from := 0
	for _, at := range markersIn(text) {
		if at < from {
			continue
		}
		found := placeholder.FindStringSubmatch(text[at:])
		if len(found) == 0 || found[1] == "agent" && !agentKeys[found[2]] {
			return nil, strings.SplitAfterN(strings.SplitN(text[at:], "\n", 2)[0], "}", 2)[0]
		}
		reference := TemplateReference{Source: found[1], Key: found[2]}
		if found[3] != "" {
			reference.Default = &found[4]
		}
		parts = append(parts, part{text: text[from:at]}, part{found[0], reference})
		from = at + len(found[0])
	}
	return append(parts, part{text: text[from:]}), ""
}

var agentKeys = map[string]bool{"id": true, "service_name": true, "service_version": true, "host_name": true, "group": true}

// References are what the template asks for, in the order of the text.
func (t *Template) References() (all []TemplateReference) {
	for _, p := range t.parts {
		if p.Source != "" {
			all = append(all, p.TemplateReference)
		}
	}
	return all
}

// Render is the configuration for an agent. What is put in never changes what is around it: the result is read again,
// and must be the template with nothing but the values of its references put in. A value that would end a quotation,
// begin a comment or another key is refused with ReasonTemplateValue, as is one that is not known.
func (t *Template) Render(known Known) ([]byte, error) {
	var out bytes.Buffer
	for _, p := range t.parts {
		text, err := p.value(known)
		if err != nil {
			return nil, err
		}
		out.WriteString(text)
	}
	rendered := out.Bytes()
	if err := CheckMapping(rendered); err != nil {
		return nil, unfit(fault.From(err).Message)
	}
	root, err := onlyRoot(rendered)
	if err != nil {
		return nil, unfit(fault.From(err).Message)
	}
	if err := sameBut(t.root, root, known); err != nil {
		return nil, err
	}
	return rendered, nil
}

func unfit(why string) error {
	return fault.New(fault.Invalid, ReasonTemplateValue, "a value does not fit into its place: %s", why)
}

// value is what stands in the place of the part.
func (p part) value(known Known) (string, error) {
	if p.Source == "" {
		return p.text, nil
	}
	value, ok := known(p.Source, p.Key)
	switch {
	case !ok && p.Default == nil:
		return "", fault.New(fault.Invalid, ReasonTemplateValue, "the %s %s is not known of the agent, and there is no default", p.Source, quoted(p.Key)).
			With("source", p.Source).With("key", p.Key)
	case !ok:
		return *p.Default, nil
	case len(value) > longestValue:
		return "", p.refuse("is longer than %d bytes", longestValue)
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return "", p.refuse("has characters that are no text")
	case strings.Contains(value, "$"):
		return "", p.refuse("has a $, which the Collector would read as a reference of its own")
	}
	return value, nil
}

func (p part) refuse(format string, args ...any) error {
	return fault.New(fault.Invalid, ReasonTemplateValue, "the %s %s %s", p.Source, quoted(p.Key), fmt.Sprintf(format, args...)).
		With("source", p.Source).With("key", p.Key)
}

// sameBut compares a template with what it was rendered to.
func sameBut(template, rendered *yaml.Node, known Known) error {
	if template.Kind != rendered.Kind || template.Anchor != rendered.Anchor || len(template.Content) != len(rendered.Content) {
		return unfit(fmt.Sprintf("line %d is another structure with it", template.Line))
	}
	if template.Kind == yaml.AliasNode {
		if template.Value != rendered.Value {
			return unfit(fmt.Sprintf("line %d is another alias with it", template.Line))
		}
		return nil
	}
	if template.Kind == yaml.ScalarNode {
		return sameScalar(template, rendered, known)
	}
	for i := range template.Content {
		if err := sameBut(template.Content[i], rendered.Content[i], known); err != nil {
			return err
		}
	}
	return nil
}

// sameScalar compares a value as it is read, after quotes and escapes. What has no reference stays of its type; what has
// one is of the type that the value has, but is never nothing.
func sameScalar(template, rendered *yaml.Node, known Known) error {
	parts, _ := cut(template.Value)
	var want strings.Builder
	for _, p := range parts {
		text, err := p.value(known)
		if err != nil {
			return err
		}
		want.WriteString(text)
	}
	same := rendered.Value == want.String() && rendered.Style == template.Style
	if len(parts) <= 1 { // no reference
		same = same && rendered.ShortTag() == template.ShortTag()
	}
	switch {
	case !same:
		return unfit(fmt.Sprintf("line %d reads otherwise with it; put the reference into double quotes", template.Line))
	case rendered.ShortTag() != template.ShortTag() && (rendered.ShortTag() == "!!null" || rendered.ShortTag() == "!!merge"):
		return unfit(fmt.Sprintf("line %d would be nothing; put the reference into quotes", template.Line))
	}
	return nil
}
