// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// arrows are the imports inside the gateway that must not be, and why. Those between the
// parts of Ampora are held in loadtest/arrows.
var arrows = []struct {
	in, except string // folders, by prefix
	imports    string // import path, by prefix
	because    string
}{
	{"", "cmd", "go.opentelemetry.io/otel/sdk", "instruments are injected; which SDK counts is the program's choice"},
	{"", "cmd", "gitlab.com/ampora/ampora/shared/ops", "it brings the SDK, and listeners that a library must not open"},
	{"internal/session", "", "net/http", "a session does not know what carries it"},
	{"internal/session", "", "gitlab.com/ampora/ampora/gateway/internal/relay", "sessions end through a function they are given"},
	{"internal/relay", "", "gitlab.com/ampora/ampora/gateway/internal/opamp", "messages are bytes to the relay"},
	{"internal/edge", "", "gitlab.com/ampora/ampora/gateway/internal/", "the edge decides before anything else is reached"},
}

func TestArrows(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "internal/gatewaytest") {
			return err
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			for _, arrow := range arrows {
				excepted := arrow.except != "" && strings.HasPrefix(path, arrow.except)
				if strings.HasPrefix(path, arrow.in) && !excepted && strings.HasPrefix(imported, arrow.imports) {
					t.Errorf("%s imports %s: %s", path, imported, arrow.because)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
