// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"gitlab.com/ampora/ampora/control/internal/cli/enrol"
	"gitlab.com/ampora/ampora/shared/run"
)

// Times of a watch over an identity.
const (
	watchLook  = time.Hour   // how often it is looked whether somebody else has renewed it, at least
	watchFirst = time.Minute // after a first failure; it doubles with each
	watchLast  = time.Hour
	// watchTurn is what one renewal, or the command after it, may take.
	watchTurn = time.Minute
)

// watchRenewal keeps an identity fresh until it is told to stop, or cannot: then a person has to do something.
func (p *program) watchRenewal(ctx context.Context, gateway *url.URL, flags renewFlags) error {
	flags.share = rand.Float64()
	failures := 0
	for ctx.Err() == nil {
		pause, err := p.watchOnce(ctx, gateway, flags)
		switch {
		case ctx.Err() != nil: // whatever failed, it was told to stop
		case err == nil:
			failures = 0
		case !mends(err):
			return err
		default:
			failures++
			pause = backOff(failures)
			_, _ = fmt.Fprintf(p.streams.Err, "%v; trying again in %s\n", err, pause.Round(time.Second))
		}
		_ = run.Sleep(ctx, pause)
	}
	return nil
}

// watchOnce does what is due, and says when to look again.
func (p *program) watchOnce(ctx context.Context, gateway *url.URL, flags renewFlags) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, watchTurn)
	defer cancel()
	result, err := p.renewOnce(ctx, gateway, flags)
	if err != nil {
		return 0, err
	}
	if err := p.runAfter(ctx, flags); err != nil {
		return 0, err
	}
	until := enrol.DueAt(result.Certificate, flags.before, flags.share).Sub(p.now())
	return min(max(until, time.Second), watchLook), nil
}

// mends says whether waiting may help: the gateway, or what stands before it, may come to its senses; an identity that has
// expired, or is refused, does not.
func mends(err error) bool {
	var failed *failure
	if !errors.As(err, &failed) {
		return true
	}
	switch failed.code {
	case ExitConflict, ExitDenied, ExitUsage:
		return false
	default:
		return true
	}
}

// backOff is the pause after so many failures, somewhere between half of it and all.
func backOff(failures int) time.Duration {
	pause := watchLast
	if shift := failures - 1; shift < 6 {
		pause = min(watchFirst<<shift, watchLast)
	}
	return pause/2 + rand.N(pause/2)
}

// owed is the file that says that the command has not been run since the identity was renewed.
const owed = "renewed.pending"

func (f renewFlags) owe() error {
	if len(f.after) == 0 {
		return nil
	}
	if err := os.WriteFile(filepath.Join(f.dir, owed), nil, 0o600); err != nil {
		return fmt.Errorf("noting that the command is to be run: %w", err)
	}
	return nil
}

// runAfter runs the command if it is owed. It writes where we tell.
func (p *program) runAfter(ctx context.Context, flags renewFlags) error {
	mark := filepath.Join(flags.dir, owed)
	if len(flags.after) == 0 || !exists(mark) {
		return nil
	}
	command := exec.CommandContext(ctx, flags.after[0], flags.after[1:]...) //nolint:gosec // the user's own, and no shell
	command.Stdout, command.Stderr = p.streams.Err, p.streams.Err
	command.WaitDelay = time.Second
	if err := command.Run(); err != nil {
		return fail(ExitError, "the identity is renewed; the command is run again by the next run", "%s: %v", flags.after[0], err)
	}
	if err := os.Remove(mark); err != nil {
		return fmt.Errorf("noting that the command was run: %w", err)
	}
	return nil
}
