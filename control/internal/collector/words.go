// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// RuleValidate is the rule of what a Collector itself says. It is not among [Rules]: what it finds is not in our hands.
const RuleValidate = "collector-validate"

// Bounds on what a Collector says.
const (
	mostWords    = 50
	longestWords = 4 * longestPart
)

// Findings is what `otelcol validate` printed when it refused the stand-in, as findings: errors, with the place if the
// Collector names one. What may come of a placeholder, or of the empty machine that it saw, is information, and says that it
// cannot be known.
func (s *StandIn) Findings(output string) []Finding {
	complaints := s.complaints(output)
	if len(complaints) == 0 {
		complaints = []complaint{{words: "it was refused without a word"}}
	}
	var found []Finding
	for _, c := range complaints[:min(len(complaints), mostWords)] {
		f := Finding{Rule: RuleValidate, Severity: Error, Path: pathOf(c.path...), Message: clip(c.words, longestWords)}
		f.Line, f.Column = whereIs(s.config.root, c.path)
		switch {
		case ofSurroundings.MatchString(c.words):
			f.Severity = Info
			f.Message = "cannot be known, for it saw no files and no network: " + f.Message
			f.Fix = "Look whether the agents have what is named."
		case s.uncertain(c):
			f.Severity = Info
			f.Message = "cannot be known, for there is a placeholder in its place: " + f.Message
			f.Fix = "Look at what the reference stands for on the agents."
		}
		found = append(found, f)
	}
	return found
}

// complaint is one of the things that a Collector says.
type complaint struct {
	path  []string
	words string
	// certain says that it is about keys or types of component, which no placeholder can change.
	certain bool
}

// uncertain reports whether a complaint may come of a placeholder: it is about a place with one above or below, or of how
// components are connected while a part of that is not known.
func (s *StandIn) uncertain(c complaint) bool {
	for _, h := range s.holes {
		shorter := min(len(c.path), len(h.path))
		switch {
		case c.certain:
		case slices.Equal(c.path[:shorter], h.path[:shorter]):
			return true
		case c.path[0] == "service" && h.wires():
			return true
		}
	}
	return false
}

// Forms of what a Collector says. Of the same version some come of decoding and some of validating.
var (
	openingWords = regexp.MustCompile(`^(Error: |failed to get config: |cannot unmarshal the configuration: |invalid configuration: |\* )+`)
	listFollows  = regexp.MustCompile(`(^|: | )[a-z0-9 ]*error\(s\)( decoding)?:$`)
	ofComponent  = regexp.MustCompile(`^'([a-z]+)' error reading configuration for "([^"]+)": (.*)$`)
	ofField      = regexp.MustCompile(`^'([^']*)' (.*)$`)
	ofPath       = regexp.MustCompile(`^((?:receivers|processors|exporters|connectors|extensions|service)(?:::[^:\s]+)*): (.*)$`)
	ofID         = regexp.MustCompile(`for id: "([^"]+)"`)
	ofType       = regexp.MustCompile(`^'[a-z]+' unknown type: `)
	ofKeys       = regexp.MustCompile(`has invalid keys: (.+)$`)
	// ofSurroundings are words about the machine on which it was asked.
	ofSurroundings = regexp.MustCompile(`no such file or directory|permission denied|operation not permitted|no such host|network is unreachable|read-only file system`)
	ofIndex        = regexp.MustCompile(`\[([^\]]*)\]`)
)

// complaints reads what a Collector printed. Lists within lists are not marked as such, so places are looked for in the
// configuration: the innermost that exists is taken.
func (s *StandIn) complaints(output string) []complaint {
	r := reader{root: s.config.root}
	for line := range strings.Lines(strings.ToValidUTF8(output, "\uFFFD")) {
		line = openingWords.ReplaceAllString(Printable(line), "")
		if line != "" && len(r.list) < 2*mostWords {
			r.line(line)
		}
	}
	return r.list
}

// Printable is a line of a Collector without what a terminal could take for more than text.
func Printable(line string) string {
	return strings.TrimSpace(strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return ' '
	}, line))
}

type reader struct {
	root *Node
	// component and nested are the places in which fields are looked for.
	component, nested []string
	list              []complaint
}

func (r *reader) line(line string) {
	if m := ofComponent.FindStringSubmatch(line); m != nil {
		r.component, r.nested = []string{m[1], m[2]}, nil
		r.say(r.component, m[3])
		return
	}
	if m := ofField.FindStringSubmatch(line); m != nil {
		path := r.find(fieldPath(m[1]))
		if id := ofID.FindStringSubmatch(m[2]); id != nil {
			path = append(path, id[1])
		}
		if listFollows.MatchString(m[2]) {
			r.nested = path
		}
		r.say(path, line)
		return
	}
	if m := ofPath.FindStringSubmatch(line); m != nil {
		r.component, r.nested = nil, nil
		r.say(strings.Split(m[1], delimiter), m[2])
		return
	}
	r.say(nil, line)
}

// say notes a complaint, unless it only says that others follow.
func (r *reader) say(path []string, words string) {
	if listFollows.MatchString(words) {
		return
	}
	c := complaint{path: path, words: words, certain: ofType.MatchString(words)}
	if m := ofKeys.FindStringSubmatch(words); m != nil {
		c.certain = true
		first, _, _ := strings.Cut(m[1], ", ")
		c.path = r.findBelow(path, first)
	}
	r.list = append(r.list, c)
}

// fieldPath splits the name of a field: a.b[0].c.
func fieldPath(name string) []string {
	return strings.FieldsFunc(ofIndex.ReplaceAllString(name, ".$1"), func(c rune) bool { return c == '.' })
}

// find is where a field is: in what is looked at last, in its component, or at the root. What is named is sometimes not a
// field but its type in the program; then it is the component.
func (r *reader) find(field []string) []string {
	for _, in := range [][]string{r.nested, r.component, nil} {
		if path := slices.Concat(in, field); len(field) > 0 && exists(r.root, path) {
			return path
		}
	}
	return slices.Clone(r.component)
}

// findBelow is where a key is: below the place, or in what is looked at.
func (r *reader) findBelow(path []string, key string) []string {
	for _, in := range [][]string{path, r.nested, r.component} {
		if below := slices.Concat(in, []string{key}); exists(r.root, below) {
			return below
		}
	}
	return path
}

func exists(root *Node, path []string) bool {
	line, _ := whereIs(root, path)
	return line > 0
}

// whereIs is where the key of the path's end is written; 0 if there is none, or the path is empty.
func whereIs(n *Node, path []string) (line, column int) {
	for _, key := range path {
		if n.is(List) {
			i, err := strconv.Atoi(key)
			if err != nil || i < 0 || i >= len(n.Items) {
				return 0, 0
			}
			n = n.Items[i]
			line, column = n.Line, n.Column
			continue
		}
		f := n.field(key)
		if f == nil {
			return 0, 0
		}
		line, column, n = f.Line, f.Column, f.Value
	}
	return line, column
}
