// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"golang.org/x/sys/unix"
)

// Program is an executable whose bytes cannot change any more.
type Program struct{ file *os.File }

// Load copies a program into memory, holds the copy to the digest and seals it: what is looked at is what will run. The
// program is closed by its user. It must be linked statically, for it finds no libraries where it runs.
func Load(from io.Reader, want [sha256.Size]byte) (*Program, error) {
	p, got, err := copied(from)
	if err != nil {
		return nil, err
	}
	if got != want {
		_ = p.Close()
		return nil, fmt.Errorf("%w: it has %x", ErrDigest, got)
	}
	return p, nil
}

// copied makes a sealed copy and says what it has.
func copied(from io.Reader) (*Program, [sha256.Size]byte, error) {
	none := [sha256.Size]byte{}
	fd, err := unix.MemfdCreate("program", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // a kernel before 6.3 knows no MFD_EXEC, and needs none
		fd, err = unix.MemfdCreate("program", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, none, fmt.Errorf("%w: no file in memory: %w", ErrCannotIsolate, err)
	}
	p := &Program{os.NewFile(uintptr(fd), "program")}
	if _, err := io.Copy(p.file, from); err != nil {
		_ = p.Close()
		return nil, none, fmt.Errorf("copy the program: %w", err)
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_GROW | unix.F_SEAL_SHRINK | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(p.file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		_ = p.Close()
		return nil, none, fmt.Errorf("%w: the copy cannot be sealed: %w", ErrCannotIsolate, err)
	}
	// Only what is sealed is worth a digest: before, others of our user could have written into it.
	hash := sha256.New()
	if _, err := io.Copy(hash, io.NewSectionReader(p.file, 0, math.MaxInt64)); err != nil {
		_ = p.Close()
		return nil, none, fmt.Errorf("read the copy: %w", err)
	}
	return p, [sha256.Size]byte(hash.Sum(nil)), nil
}

// Close gives its memory back.
func (p *Program) Close() error { return p.file.Close() } //nolint:wrapcheck // says which file it is
