// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import "strings"

// hasReference reports whether the Collector would put something else in place of a part of the text: ${env:NAME},
// ${file:...}, ${NAME}. A $$ before the brace is an escaped $, which makes the rest text.
func hasReference(text string) bool { return len(references(text)) > 0 }

// isReference reports whether n stands for something the agent will know: its kind is not known here.
func isReference(n *Node) bool { return n.is(String) && hasReference(n.Text) }

// span is a part of a text.
type span struct{ begin, end int }

// references are the outermost complete ${...} of a text, in order.
func references(text string) []span {
	var open []int
	var closed []span
	for i := 0; i < len(text); i++ {
		switch {
		case strings.HasPrefix(text[i:], "$$"):
			i++
		case strings.HasPrefix(text[i:], "${"):
			open = append(open, i)
			i++
		case text[i] == '}' && len(open) > 0:
			begin := open[len(open)-1]
			open = open[:len(open)-1]
			for len(closed) > 0 && closed[len(closed)-1].begin > begin {
				closed = closed[:len(closed)-1]
			}
			closed = append(closed, span{begin, i + 1})
		}
	}
	return closed
}

// literal is what a text says by itself: its references are left out.
func literal(text string) string {
	var rest strings.Builder
	from := 0
	for _, r := range references(text) {
		rest.WriteString(text[from:r.begin])
		from = r.end
	}
	rest.WriteString(text[from:])
	return rest.String()
}
