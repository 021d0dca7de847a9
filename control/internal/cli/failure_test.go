// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/shared/identity"
)

func TestEveryCodeHasAnExit(t *testing.T) {
	want := map[connect.Code]ExitCode{
		connect.CodeCanceled: ExitInterrupted, connect.CodeUnknown: ExitError, connect.CodeInvalidArgument: ExitUsage,
		connect.CodeDeadlineExceeded: ExitUnavailable, connect.CodeNotFound: ExitNotFound, connect.CodeAlreadyExists: ExitConflict,
		connect.CodePermissionDenied: ExitDenied, connect.CodeResourceExhausted: ExitUnavailable,
		connect.CodeFailedPrecondition: ExitConflict, connect.CodeAborted: ExitConflict, connect.CodeOutOfRange: ExitUsage,
		connect.CodeUnimplemented: ExitError, connect.CodeInternal: ExitError, connect.CodeUnavailable: ExitUnavailable,
		connect.CodeDataLoss: ExitError, connect.CodeUnauthenticated: ExitDenied,
	}
	if len(want) != 16 {
		t.Fatalf("there are 16 codes, the table has %d", len(want))
	}
	for code, exit := range want {
		inWorld(t, func(t *testing.T, w *world) {
			w.state.failNext = refuse(code, "SOME_REASON", "a sentence with \x1b[31m in it", map[string]string{"limit": "20"})
			got := w.run("groups", "create", "lab")
			if got.code != int(exit) {
				t.Errorf("%v: exit %d, want %d", code, got.code, exit)
			}
			if !strings.Contains(got.errOut, `a sentence with \x1b[31m in it`) ||
				!strings.Contains(got.errOut, "reason: SOME_REASON (limit=20)") || got.out != "" {
				t.Errorf("%v: %q %q", code, got.errOut, got.out)
			}
		})
	}
}

func TestExitCodesAreListedOnce(t *testing.T) {
	last := ExitCode(-1)
	for _, exit := range ExitCodes() {
		if exit.Code <= last || exit.Meaning == "" {
			t.Errorf("%d follows %d: %q", exit.Code, last, exit.Meaning)
		}
		last = exit.Code
	}
}

func TestTheTokenDoesNotLeak(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.state.token = identity.NewToken(identity.APIToken) // the server knows another one
		got := w.run("system", "get")
		if got.code != int(ExitDenied) || !strings.Contains(got.errOut, "AMPORA_TOKEN_FILE") {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
		if strings.Contains(got.out+got.errOut, w.token.Reveal()) {
			t.Error("the token was printed")
		}
	})
}

func TestWhereTheTokenComesFrom(t *testing.T) {
	write := func(t *testing.T, text string) string {
		file := filepath.Join(t.TempDir(), "token")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	cases := []struct {
		name    string
		environ func(t *testing.T, token string) []string
		args    func(t *testing.T, token string) []string
		stdin   func(token string) string
		exit    ExitCode
		says    string
	}{
		{name: "variable", environ: func(_ *testing.T, s string) []string { return []string{"AMPORA_TOKEN=" + s} }},
		{name: "file", environ: func(t *testing.T, s string) []string { return []string{"AMPORA_TOKEN_FILE=" + write(t, s+"\n")} }},
		{name: "flag", args: func(t *testing.T, s string) []string { return []string{"--token-file", write(t, s)} }},
		{name: "stdin", args: func(*testing.T, string) []string { return []string{"--token-file", "-"} }, stdin: func(s string) string { return s }},
		{
			name: "flag before environment", args: func(t *testing.T, s string) []string { return []string{"--token-file", write(t, s)} },
			environ: func(*testing.T, string) []string { return []string{"AMPORA_TOKEN=x", "AMPORA_TOKEN_FILE=y"} },
		},
		{name: "none", exit: ExitDenied, says: "not accepted"},
		{
			name: "both", environ: func(_ *testing.T, s string) []string {
				return []string{"AMPORA_TOKEN=" + s, "AMPORA_TOKEN_FILE=/nonexistent"}
			}, exit: ExitUsage, says: "both set",
		},
		{name: "missing file", environ: func(*testing.T, string) []string { return []string{"AMPORA_TOKEN_FILE=/nonexistent"} }, exit: ExitUsage, says: "no such file"},
		{name: "empty file", args: func(t *testing.T, _ string) []string { return []string{"--token-file", write(t, "")} }, exit: ExitUsage, says: "not a token"},
		{
			name: "truncated", environ: func(_ *testing.T, s string) []string { return []string{"AMPORA_TOKEN=" + s[:len(s)-3]} },
			exit: ExitUsage, says: "damaged copy",
		},
		{
			name: "another kind", environ: func(*testing.T, string) []string {
				return []string{"AMPORA_TOKEN=" + identity.NewToken(identity.BootstrapToken).Reveal()}
			}, exit: ExitUsage, says: "amp-pat.",
		},
		{name: "huge", args: func(t *testing.T, _ string) []string {
			return []string{"--token-file", write(t, strings.Repeat("a", 1<<16))}
		}, exit: ExitUsage, says: "larger than"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				var environ []string
				args := []string{"system", "get"}
				var stdin, out, errOut strings.Builder
				if c.environ != nil {
					environ = c.environ(t, w.token.Reveal())
				}
				if c.args != nil {
					args = append(args, c.args(t, w.token.Reveal())...)
				}
				if c.stdin != nil {
					stdin.WriteString(c.stdin(w.token.Reveal()))
				}
				p := newProgram(Streams{strings.NewReader(stdin.String()), &out, &errOut}, environ)
				p.dial = w.dial
				if code := p.run(t.Context(), args); code != int(c.exit) || !strings.Contains(errOut.String(), c.says) {
					t.Errorf("exit %d, want %d and %q: %s", code, c.exit, c.says, errOut.String())
				}
				if strings.Contains(errOut.String(), w.token.Reveal()[:20]) {
					t.Error("the token was printed")
				}
			})
		})
	}
}

func TestServerAddress(t *testing.T) {
	cases := []struct {
		address string
		flags   []string
		exit    ExitCode
		says    string
	}{
		{address: "http://localhost:8080"},
		{address: "http://[::1]:8080/"},
		{address: "http://control.example.org", exit: ExitUsage, says: "in the clear"},
		{address: "http://control.example.org", flags: []string{"--allow-plaintext"}},
		{address: "control.example.org:8080", exit: ExitUsage, says: "https://HOST"},
		{address: "https://user:secret@control.example.org", exit: ExitUsage, says: "neither user"}, //nolint:gosec // made up
		{address: "ftp://control.example.org", exit: ExitUsage, says: "https://HOST"},
	}
	for _, c := range cases {
		t.Run(c.address, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.extra = []string{"AMPORA_SERVER=" + c.address}
				got := w.run(append([]string{"system", "get"}, c.flags...)...)
				if got.code != int(c.exit) || !strings.Contains(got.errOut, c.says) {
					t.Errorf("exit %d, want %d and %q: %s", got.code, c.exit, c.says, got.errOut)
				}
			})
		})
	}
}

func TestNoServer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		_ = w.listen.Close()
		got := w.run("agents", "list")
		if got.code != int(ExitUnavailable) || !strings.Contains(got.errOut, "AMPORA_SERVER") {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
	})
}

// A server that takes the connection and says nothing.
func silent(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	go func() {
		_, _ = io.Copy(io.Discard, server)
		_ = server.Close()
	}()
	return client, ctx.Err()
}

func TestTimeout(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.dial = silent
		begun := time.Now()
		got := w.run("agents", "list", "--timeout", "7s")
		if got.code != int(ExitUnavailable) || time.Since(begun) != 7*time.Second || !strings.Contains(got.errOut, "--timeout") {
			t.Errorf("exit %d after %v: %s", got.code, time.Since(begun), got.errOut)
		}
	})
}

func TestInterrupt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.dial = silent
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, interrupt)
		if got := w.runIn(ctx, "agents", "list"); got.code != int(ExitInterrupted) {
			t.Errorf("exit %d: %s", got.code, got.errOut)
		}
	})
}

func TestBrokenOutput(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		for _, format := range []string{"table", "json", "yaml"} {
			var errOut strings.Builder
			code := w.start(t.Context(), Streams{strings.NewReader(""), brokenWriter{}, &errOut}, "agents", "list", "-o", format)
			if code != int(ExitError) || !strings.Contains(errOut.String(), "disk full") {
				t.Errorf("%s: exit %d: %s", format, code, errOut.String())
			}
		}
	})
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("disk full") }
