// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
)

// minted is an answer that holds a secret which is shown this once.
type minted struct {
	answer proto.Message
	secret string
	hide   func() // takes the secret out of answer
	hint   string // what a person wants to know besides
}

// mint asks for a secret and hands it over: alone on standard output, inside the answer with -o json or yaml, or in the
// file out. The file is made first: a secret that then cannot be kept would be lost.
func (p *program) mint(out string, ask func() (minted, error)) error {
	if out == "" {
		got, err := ask()
		if err != nil {
			return err
		}
		_, _ = fmt.Fprintf(p.streams.Err, "%s; this is the only time its secret is shown\n", escape(got.hint))
		return p.show(got.answer, func() view { return line(escape(got.secret)) })
	}
	file, err := fresh(out, "secret", 0o600)
	if err != nil {
		return err
	}
	defer file.drop()
	got, err := ask()
	if err == nil {
		err = file.keep([]byte(got.secret + "\n"))
	}
	if err != nil {
		return err
	}
	got.hide()
	_, _ = fmt.Fprintf(p.streams.Err, "%s; its secret is in %s\n", escape(got.hint), out)
	if p.format == formatTable {
		return nil
	}
	return p.show(got.answer, nil)
}

// freshFile is a new file, made before what goes into it is asked for. A nil one takes nothing.
type freshFile struct {
	file *os.File
	what string
	kept bool
	held []byte // of a file that was there and may stay: what is in it
}

// fresh makes a file that must not be there yet, nil for "".
func fresh(name, what string, mode os.FileMode) (*freshFile, error) {
	if name == "" {
		return nil, nil
	}
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // the caller's own choice
	if err != nil {
		return nil, usage("the file for the %s must be a new one: %v", what, err)
	}
	return &freshFile{file: file, what: what}, nil
}

// freshOrSame is fresh, but takes a file that holds already what comes.
func freshOrSame(name, what string, mode os.FileMode) (*freshFile, error) {
	if held, err := os.ReadFile(name); err == nil { //nolint:gosec // the caller's own choice
		return &freshFile{what: what, held: held, kept: true}, nil
	}
	return fresh(name, what, mode)
}

// keep writes all there is to be written.
func (f *freshFile) keep(content []byte) error {
	if f == nil {
		return nil
	}
	if f.file == nil {
		if !bytes.Equal(f.held, content) {
			return usage("the file for the %s holds something else; name a new one", f.what)
		}
		return nil
	}
	_, err := f.file.Write(content)
	if err == nil {
		err = f.file.Sync()
	}
	if err == nil {
		err = f.file.Close()
	}
	if err != nil {
		return fmt.Errorf("keeping the %s: %w", f.what, err)
	}
	f.kept = true
	return nil
}

// drop removes the file unless it holds what it is for: it is ours.
func (f *freshFile) drop() {
	if f == nil || f.kept {
		return
	}
	_ = f.file.Close()
	_ = os.Remove(f.file.Name())
}

func outFlag(cmd *cobra.Command, out *string) {
	cmd.Flags().StringVar(out, "out", "", "write the secret to this new `FILE`, readable by its owner alone")
}

// lifetime is a flag that also knows days: 7d.
type lifetime time.Duration

func (l *lifetime) duration() time.Duration { return time.Duration(*l) }

// String is "" for no lifetime, so that the help shows no default.
func (l *lifetime) String() string {
	if *l == 0 {
		return ""
	}
	return l.duration().String()
}

// Set reads what time.ParseDuration reads, or a whole number of days.
func (l *lifetime) Set(text string) error {
	const day = 24 * time.Hour
	if digits, isDays := strings.CutSuffix(text, "d"); isDays {
		days, err := strconv.ParseUint(digits, 10, 16)
		if err != nil || days == 0 {
			return fmt.Errorf("a number of days is written like 7d")
		}
		*l = lifetime(time.Duration(days) * day)
		return nil
	}
	duration, err := time.ParseDuration(text)
	if err != nil || duration <= 0 {
		return fmt.Errorf("a duration is written like 90m, 24h or 7d")
	}
	*l = lifetime(duration)
	return nil
}

// Type names the flag's value in the help.
func (l *lifetime) Type() string { return "duration" }
