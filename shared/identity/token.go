// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package identity

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"strings"
)

// TokenKind is the prefix of a secret token; it says what the token is good for.
type TokenKind string

// The kinds of token.
const (
	BootstrapToken TokenKind = "amp-bs"   // admits one agent to its enrolment, once
	APIToken       TokenKind = "amp-pat"  // a principal of the public API
	GatewayToken   TokenKind = "amp-gw"   // admits one gateway to its join, once
	PoolToken      TokenKind = "amp-pool" // draws bootstrap tokens from a pool
)

// Token is a secret of the form
//
//	<kind>.<52 characters of base32>.<7 characters of base32>
//
// where the first part is 32 random bytes and the second the CRC-32 (IEEE) of
// all that precedes its dot; both in RFC 4648 base32, lower-case, unpadded. The
// CRC is no protection: it lets a damaged copy be told from a wrong token without
// asking the database.
//
// A Token prints as its kind alone, in every verb of fmt, in slog and in JSON.
// It cannot be compared with ==: compare hashes, which are what is stored.
type Token struct {
	// A pointer, because fmt prints unexported fields of an enclosing struct
	// without asking Format, and prints a pointer there as an address.
	text *string
	kind TokenKind
	_    [0]func() // forbids ==, whose time depends on the secret
}

// The ways in which [ParseToken] refuses a text. Neither quotes it.
var (
	// ErrTokenForm: the text is not a token of the kind asked for at all.
	ErrTokenForm = errors.New("not a token of this kind")
	// ErrTokenTruncated: the text begins like a token of the kind, but its CRC is
	// missing or does not match: an incomplete or mistyped copy.
	ErrTokenTruncated = errors.New("a damaged copy of a token: its check characters do not match")
)

const (
	secretBytes = 32
	secretChars = 52 // 256 bits in groups of 5
	crcChars    = 7  // 32 bits in groups of 5
)

var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewToken mints a token from the operating system's randomness, which never
// fails: crypto/rand ends the program instead.
func NewToken(kind TokenKind) Token {
	var secret [secretBytes]byte
	rand.Read(secret[:])
	return tokenOf(kind, secret)
}

// ParseToken reads a token of one kind. It answers [ErrTokenForm] or
// [ErrTokenTruncated]; a nil error says that the text is an undamaged token, not
// that anybody issued it.
func ParseToken(kind TokenKind, text string) (Token, error) {
	rest, found := strings.CutPrefix(text, string(kind)+".")
	if !found || len(rest) > secretChars+1+crcChars || !tokenAlphabet(rest) {
		return Token{}, ErrTokenForm
	}
	body, sum, _ := strings.Cut(rest, ".")
	if len(body) != secretChars || sum != checksum(kind, body) {
		return Token{}, ErrTokenTruncated
	}
	var secret [secretBytes]byte
	if _, err := lowerBase32.Decode(secret[:], []byte(body)); err != nil {
		return Token{}, ErrTokenForm
	}
	token := tokenOf(kind, secret)
	if token.Reveal() != text { // the four spare bits of the last character are set
		return Token{}, ErrTokenForm
	}
	return token, nil
}

// Hash is the SHA-256 of the token's whole text: the form in which it is stored
// and looked up. The secret has 256 random bits, so it needs neither salt nor
// stretching, and a lookup by hash leaks nothing of the secret by its time.
func (t Token) Hash() [sha256.Size]byte { return sha256.Sum256([]byte(t.Reveal())) }

// Kind says what the token is good for.
func (t Token) Kind() TokenKind { return t.kind }

// Reveal returns the secret text, for the one answer that shows it to its owner.
// The zero Token reveals "".
func (t Token) Reveal() string {
	if t.text == nil {
		return ""
	}
	return *t.text
}

// String is the kind of the token and nothing of its secret.
func (t Token) String() string { return string(t.kind) + ".[redacted]" }

// GoString is String: %#v shows no more than %s.
func (t Token) GoString() string { return t.String() }

// Format writes String for every verb.
func (t Token) Format(state fmt.State, _ rune) { _, _ = io.WriteString(state, t.String()) }

// LogValue keeps the secret out of structured logs.
func (t Token) LogValue() slog.Value { return slog.StringValue(t.String()) }

// MarshalText keeps the secret out of JSON and every other text encoding.
func (t Token) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

func tokenOf(kind TokenKind, secret [secretBytes]byte) Token {
	body := lowerBase32.EncodeToString(secret[:])
	text := string(kind) + "." + body + "." + checksum(kind, body)
	return Token{text: &text, kind: kind}
}

func checksum(kind TokenKind, body string) string {
	var sum [4]byte
	binary.BigEndian.PutUint32(sum[:], crc32.ChecksumIEEE([]byte(string(kind)+"."+body)))
	return lowerBase32.EncodeToString(sum[:])
}

func tokenAlphabet(text string) bool {
	for i := range len(text) {
		if c := text[i]; !('a' <= c && c <= 'z' || '2' <= c && c <= '7' || c == '.') {
			return false
		}
	}
	return true
}
