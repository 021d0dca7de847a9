// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
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
			safe.WriteString(`\x` + strconv.FormatUint(uint64(text[i])|0x100, 16)[1:])
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

func appendUnicodeEscape(to []byte, r rune) []byte {
	if r > 0xffff { // RFC 8259 section 7: a surrogate pair
		r -= 0x10000
		return appendUnicodeEscape(appendUnicodeEscape(to, 0xd800+r>>10), 0xdc00+r&0x3ff)
	}
	return append(append(to, '\\', 'u'), strconv.FormatUint(uint64(r)|0x10000, 16)[1:]...)
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
