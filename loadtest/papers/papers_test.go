// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package papers holds the documents to the tree: links lead somewhere, the map of the code names functions that exist,
// and what the reference lists is complete. A document that is wrong is worse than none.
package papers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// checkout is the top of the repository, seen from this package.
const checkout = "../.."

var (
	fence = regexp.MustCompile("(?ms)^```.*?^```")
	link  = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	// mapped is a row of the map: the last two cells are a file and a function in it.
	mapped = regexp.MustCompile("(?m)^\\|.*\\| `([a-z0-9_/-]+\\.go)` \\| `(\\w+)` \\|(?:.*\\|)?$|^\\| `([a-z0-9_/-]+\\.go)` \\| `(\\w+)` \\|")
	header = regexp.MustCompile(`(?m)^#+ (.*)$`)
	reason = regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
)

// TestLinks follows every relative link of every document, to its heading if it names one.
func TestLinks(t *testing.T) {
	for _, page := range files(t, ".md") {
		for _, match := range link.FindAllStringSubmatch(fence.ReplaceAllString(text(t, page), ""), -1) {
			target, heading, _ := strings.Cut(match[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			to := page
			if target != "" {
				to = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(to); err != nil {
				t.Errorf("%s: the link %q leads nowhere", page, match[1])
				continue
			}
			if heading != "" && !slices.Contains(headings(text(t, to)), heading) {
				t.Errorf("%s: the link %q names no heading", page, match[1])
			}
		}
	}
}

// TestMap looks for every function that the map of the code names.
func TestMap(t *testing.T) {
	rows := mapped.FindAllStringSubmatch(text(t, filepath.Join(checkout, "docs/README.md")), -1)
	if len(rows) < 40 {
		t.Fatalf("the map has %d rows with a function; has its form changed?", len(rows))
	}
	for _, row := range rows {
		file, function := row[1]+row[3], row[2]+row[4]
		if !slices.Contains(functions(t, filepath.Join(checkout, file)), function) {
			t.Errorf("the map: there is no function %s in %s", function, file)
		}
	}
}

// TestReasons demands a line in the reference for every reason that the code can give.
func TestReasons(t *testing.T) {
	page := text(t, filepath.Join(checkout, "docs/reference/errors.md"))
	for value, name := range constants(t, "Reason", "Refused", "Attention") {
		if reason.MatchString(value) && !strings.Contains(page, "`"+value+"`") {
			t.Errorf("docs/reference/errors.md does not explain %s (%s)", value, name)
		}
	}
}

// TestEvents demands a line in the reference for every kind of event and every reason of a session's end.
func TestEvents(t *testing.T) {
	page := text(t, filepath.Join(checkout, "docs/reference/events.md"))
	for value, name := range constants(t, "Event", "End") {
		if (strings.Contains(value, ".") || reason.MatchString(value)) && !strings.Contains(page, "`"+value+"`") {
			t.Errorf("docs/reference/events.md does not explain %s (%s)", value, name)
		}
	}
}

// TestProcedures demands a row in the reference for every procedure of the public API.
func TestProcedures(t *testing.T) {
	page := text(t, filepath.Join(checkout, "docs/reference/api.md"))
	procedure := regexp.MustCompile(`(?m)^(?:service (\w+) \{|  rpc (\w+)\()`)
	for _, file := range files(t, ".proto") {
		if !strings.Contains(file, "proto/ampora/v1/") {
			continue
		}
		service := ""
		for _, match := range procedure.FindAllStringSubmatch(text(t, file), -1) {
			if match[1] != "" {
				service = match[1]
			} else if !strings.Contains(page, "| "+service+" | "+match[2]) {
				t.Errorf("docs/reference/api.md does not list %s/%s", service, match[2])
			}
		}
	}
}

// TestDecisions demands that the index knows every decision.
func TestDecisions(t *testing.T) {
	index := text(t, filepath.Join(checkout, "docs/adr/README.md"))
	for _, page := range files(t, ".md") {
		if name := filepath.Base(page); strings.Contains(page, "docs/adr/0") && !strings.Contains(index, "("+name+")") {
			t.Errorf("docs/adr/README.md does not list %s", name)
		}
	}
}

// TestTests demands that every test that a document names is there.
func TestTests(t *testing.T) {
	there := map[string]bool{}
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(`)
	for _, file := range files(t, "_test.go") {
		for _, match := range declared.FindAllStringSubmatch(text(t, file), -1) {
			there[match[1]] = true
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z]\\w*)(?:/[^`]*)?`")
	for _, page := range files(t, ".md") {
		for _, match := range named.FindAllStringSubmatch(text(t, page), -1) {
			if !there[match[1]] {
				t.Errorf("%s names %s, which is nowhere", page, match[1])
			}
		}
	}
}

// files lists the files with the extension that belong to the project.
func files(t *testing.T, extension string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(checkout, func(path string, entry fs.DirEntry, err error) error {
		name := entry.Name()
		if entry.IsDir() && path != checkout && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "third_party" || name == "bin") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(name, extension) {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s files in the checkout: %v", extension, err)
	}
	return found
}

func text(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// headings returns the anchors that renderers make of a document's headings.
func headings(page string) []string {
	var anchors []string
	for _, match := range header.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		anchor := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
				return r
			default:
				return -1
			}
		}, strings.ToLower(match[1]))
		anchors = append(anchors, anchor)
	}
	return anchors
}

// functions returns the names of the functions and methods that a file declares.
func functions(t *testing.T, path string) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Errorf("the map: %v", err)
		return nil
	}
	var names []string
	for _, declared := range file.Decls {
		if function, ok := declared.(*ast.FuncDecl); ok {
			names = append(names, function.Name.Name)
		}
	}
	return names
}

// constants returns the values of the text constants in the two halves whose names begin with one of the prefixes, and
// the reasons that are given to fault.New as they are.
func constants(t *testing.T, prefixes ...string) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, path := range files(t, ".go") {
		if strings.HasSuffix(path, "_test.go") || !strings.Contains(path, "control/internal/") &&
			!strings.Contains(path, "gateway/internal/") && !strings.Contains(path, "shared/") && !strings.Contains(path, "migrations/") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.ValueSpec:
				collect(found, path, node, prefixes)
			case *ast.CallExpr:
				if call, ok := node.Fun.(*ast.SelectorExpr); ok && call.Sel.Name == "New" && slices.Contains(prefixes, "Reason") && len(node.Args) > 1 {
					if value, ok := literal(node.Args[1]); ok {
						found[value] = path
					}
				}
			}
			return true
		})
	}
	return found
}

func collect(found map[string]string, path string, spec *ast.ValueSpec, prefixes []string) {
	for i, name := range spec.Names {
		begins := slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name.Name, prefix) })
		if !begins || i >= len(spec.Values) {
			continue
		}
		if value, ok := literal(spec.Values[i]); ok {
			found[value] = path + " " + name.Name
		}
	}
}

func literal(e ast.Expr) (string, bool) {
	basic, ok := e.(*ast.BasicLit)
	if !ok || basic.Kind != token.STRING {
		return "", false
	}
	value, err := strconv.Unquote(basic.Value)
	return value, err == nil
}
