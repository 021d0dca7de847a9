// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package conf

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
)

const (
	redacted   = "[redacted]"
	fileSuffix = "_FILE"

	// maxSecretFile bounds a secret in bytes: room for a chain of certificates.
	maxSecretFile = 64 << 10
)

// Secret is text that does not print: every verb of fmt, slog and JSON show
// "[redacted]". The zero Secret is an empty one. It cannot be compared with ==;
// compare what Reveal returns, in constant time.
type Secret struct {
	// A pointer, because fmt prints unexported fields of an enclosing struct
	// without asking Format, and prints a pointer there as an address.
	text *string
	_    [0]func() // forbids ==, whose time depends on the secret
}

// NewSecret wraps a secret text.
func NewSecret(text string) Secret { return Secret{text: &text} }

// Reveal returns the text.
func (s Secret) Reveal() string {
	if s.text == nil {
		return ""
	}
	return *s.text
}

// IsZero says whether there is no text.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String is "[redacted]", whatever the text.
func (s Secret) String() string { return redacted }

// GoString is String.
func (s Secret) GoString() string { return redacted }

// Format writes String for every verb.
func (s Secret) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, redacted) }

// LogValue keeps the text out of structured logs.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText keeps the text out of JSON and every other text encoding. It
// therefore does not round-trip.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// UnmarshalText reads a secret from its text.
func (s *Secret) UnmarshalText(text []byte) error {
	*s = NewSecret(string(text))
	return nil
}

// loadFile puts the contents of the file that NAME_FILE names into the place of
// NAME. It reports false after a problem.
func (l *loader) loadFile(v variable, environment map[string]string) bool {
	path, given := l.values[v.name+fileSuffix]
	if !given {
		return true
	}
	if _, both := environment[v.name]; both {
		l.problem("%s and %s%s are both set; set one", v.name, v.name, fileSuffix)
		return false
	}
	text, public, err := readSecret(path)
	switch {
	case err != nil:
		l.problem("%s%s cannot be read: %v", v.name, fileSuffix, err)
		return false
	case text == "":
		l.problem("%s%s names %q, which is empty", v.name, fileSuffix, path)
		return false
	case public:
		l.note("%s%s names %q, which every user of this machine can read", v.name, fileSuffix, path)
	}
	environment[v.name] = text
	return true
}

// readSecret returns the contents of a file without one newline at its end, which
// editors add, and whether others may read it.
func readSecret(path string) (text string, public bool, err error) {
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", false, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return "", false, err
	}
	raw, err := io.ReadAll(io.LimitReader(file, maxSecretFile+1))
	if err != nil {
		return "", false, err
	}
	if len(raw) > maxSecretFile {
		return "", false, fmt.Errorf("%s has more than %d bytes", path, maxSecretFile)
	}
	text = strings.TrimSuffix(strings.TrimSuffix(string(raw), "\n"), "\r")
	return text, info.Mode().IsRegular() && info.Mode().Perm()&0o004 != 0, nil
}
