// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"encoding/json"
	"slices"
	"strings"
)

// longestShown bounds a value in a change, in bytes.
const longestShown = 400

// show returns the node at the path as JSON without its secrets, shortened. It looks at no more than it shows.
func show(path []string, n *Node) string {
	if n == nil {
		return ""
	}
	w := shower{left: longestShown}
	if len(path) > 0 && placeOf(path[:1]) == inSection {
		path = path[min(2, len(path)):] // ids are names
	}
	w.node(n, slices.ContainsFunc(path, secretive))
	return w.text.String()
}

// secretive reports whether all values below a key are secret.
func secretive(key string) bool { return namesSecret(key) || holdsHeaders(key) }

type shower struct {
	text strings.Builder
	left int
}

// write returns false when there is no more room.
func (w *shower) write(text string) bool {
	if w.left < 0 {
		return false
	}
	if w.left -= len(text); w.left < 0 {
		w.text.WriteString("…")
		return false
	}
	w.text.WriteString(text)
	return true
}

func (w *shower) node(n *Node, secret bool) bool {
	switch n.Kind {
	case List:
		for i, item := range n.Items {
			if !w.write(opening("[", i)) || !w.node(item, secret) {
				return false
			}
		}
		return w.write(closing("[", "]", len(n.Items)))
	case Map:
		for i, f := range n.Fields {
			if !w.write(opening("{", i)+jsonText(f.Key)+":") || !w.node(f.Value, hides(n, f.Key, secret)) {
				return false
			}
		}
		return w.write(closing("{", "}", len(n.Fields)))
	default:
		return w.write(n.shown(secret))
	}
}

// hides reports whether the value of a field is secret, in a mapping whose values are secret or not. A header may be
// written as name and value: the value is as secret as that of one written as a key, the name never is.
func hides(n *Node, key string, secret bool) bool {
	switch paired := n.field("value") != nil; {
	case paired && (key == "name" || key == "key"):
		return false
	case paired && key == "value":
		return secret || namesSecret(n.Get("name").text()) || namesSecret(n.Get("key").text())
	default:
		return secret || secretive(key)
	}
}

func opening(bracket string, i int) string {
	if i == 0 {
		return bracket
	}
	return ","
}

func closing(begin, end string, length int) string {
	if length == 0 {
		return begin + end
	}
	return end
}

// shown is a scalar as JSON.
func (n *Node) shown(secret bool) string {
	text := clip(n.Text, longestSecret)
	switch {
	case n.Kind == Null:
		return "null"
	case n.Kind == Bool:
		return text
	case secret && plainly(text), pemKey.MatchString(text):
		return jsonText(Redacted)
	case n.Kind == Int || n.Kind == Float:
		return text
	default:
		return jsonText(withoutPassword(text))
	}
}

func jsonText(text string) string {
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(clip(text, longestShown)); err != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}
