// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"testing"
)

// Bytes survive the way in, from a file and from standard input, and the way out.
func TestBytesAreExact(t *testing.T) {
	body := make([]byte, 64<<10)
	_, _ = rand.Read(body)
	body = append(body, "\r\n\x00\xff\n"...)
	inWorld(t, func(t *testing.T, w *world) {
		file := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(file, body, 0o600); err != nil {
			t.Fatal(err)
		}
		w.stdin = string(body)
		for _, source := range []string{file, "-"} {
			if got := w.run("configs", "push", "edge", "-f", source); got.code != 0 {
				t.Fatal(got.errOut)
			}
		}
		for _, version := range []string{"edge@3", "edge@4"} {
			if got := w.run("configs", "cat", version); got.code != 0 || !bytes.Equal([]byte(got.out), body) {
				t.Errorf("%s came back as %d other bytes: %s", version, len(got.out), got.errOut)
			}
		}
		w.stdin = string(make([]byte, maxConfig+1))
		if got := w.run("configs", "push", "edge", "-f", "-"); got.code != int(ExitUsage) {
			t.Errorf("too many bytes: exit %d: %s", got.code, got.errOut)
		}
	})
}

// /dev/ptmx is a terminal's other end wherever there are terminals; nothing is read from it here.
func TestExactBytesDoNotDriveATerminal(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	regular, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer regular.Close()
	if !isTerminal(terminal) || isTerminal(regular) || isTerminal(new(bytes.Buffer)) {
		t.Error("terminals are not told from files")
	}
}
