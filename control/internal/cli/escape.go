// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// escape makes text of unknown origin safe to show in one line: whatever is not a printable character or an ASCII
// space (control sequences, line breaks, bidirectional overrides, invisible characters, bytes that are no UTF-8) becomes
// a visible escape. Terminals act on such characters, and an agent may call itself what it likes.
func escape(text string) string { return escapeExcept(text, "") }

// escapeLines is escape that keeps line breaks and tabs, for text of several lines.
func escapeLines(text string) string { return escapeExcept(text, "\n\t") }

func escapeExcept(text, keep string) string {
	var safe strings.Builder
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			_, _ = fmt.Fprintf(&safe, `\x%02x`, text[i])
		case unicode.IsPrint(r) || strings.ContainsRune(keep, r):
			safe.WriteRune(r)
		default:
			safe.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
		}
		i += size
	}
	return safe.String()
}

// escapeJSON makes a JSON text safe to show and leaves its meaning alone: inside strings, the only place where such
// characters can stand, they become \u escapes.
func escapeJSON(text []byte) []byte {
	safe := make([]byte, 0, len(text))
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == '\n' || unicode.IsPrint(r) {
			safe = append(safe, text[i:i+size]...)
		} else {
			safe = appendUnicodeEscape(safe, r)
		}
		i += size
	}
	return safe
}

// appendUnicodeEscape writes a character as RFC 8259 section 7 has it: beyond the basic plane, a surrogate pair.
func appendUnicodeEscape(to []byte, r rune) []byte {
	if high, low := utf16.EncodeRune(r); high != unicode.ReplacementChar {
		return fmt.Appendf(to, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(to, `\u%04x`, r)
}

// writeExact writes bytes as they are, unless a terminal would read them: there it escapes what could drive it.
func writeExact(out io.Writer, body []byte) error {
	if isTerminal(out) {
		body = []byte(escapeLines(string(body)))
	}
	_, err := out.Write(body)
	return err
}

func isTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
