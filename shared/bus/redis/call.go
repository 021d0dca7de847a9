// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/fault"
)

// ErrForbidden says that the server does not let this user in, or not do this. Its access
// rules are not those of [GatewayRules] or [ControlRules].
var ErrForbidden = fault.New(fault.Internal, "BUS_FORBIDDEN", "the bus does not let this program in")

// trip is a round trip to the server.
type trip struct {
	// queue queues the commands. It may be called again for another line, if nothing was
	// sent on the first.
	queue func(c call)
	// atomic: all commands are executed at once, or none.
	atomic bool
	// pardon is how an answer begins that is no error on this trip.
	pardon string
}

// call is what the commands of a trip are queued to.
type call struct {
	goredis.Pipeliner
	line *line
}

// do makes a trip, or gives up when the context or the bus ends: then the commands may
// still be executed, and their answers must not be looked at. The error is that of the
// network, or of the command that the server refused; nil answers are none.
func (b *Bus) do(ctx context.Context, t trip) error {
	const tries = 3
	var err error
	for range tries {
		if err = b.doOnce(ctx, t); !errors.Is(err, errOtherHistory) {
			return err
		}
	}
	return bus.ErrUnavailable.WithCause(err)
}

// doOnce answers errOtherHistory if nothing was sent because the line was of the past.
func (b *Bus) doOnce(ctx context.Context, t trip) error {
	l := b.line.Load()
	if l.history.Load() == 0 {
		if err := b.wait(ctx, l, func(ctx context.Context) error { return l.client.Ping(ctx).Err() }); err != nil {
			return err
		}
	}
	c := call{Pipeliner: l.client.Pipeline(), line: l}
	if t.atomic {
		c.Pipeliner = l.client.TxPipeline()
	}
	t.queue(c)
	return b.wait(ctx, l, func(ctx context.Context) error {
		commands, err := c.Exec(ctx)
		return t.firstError(commands, err)
	})
}

// wait waits for a function that talks to the server. The client library heeds the
// deadline of a context, but not that it is cancelled.
func (b *Bus) wait(ctx context.Context, l *line, talk func(context.Context) error) error {
	if err := b.usable(ctx); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- talk(context.WithoutCancel(ctx)) }()
	select {
	case err := <-done:
		return b.explain(l, err)
	case <-ctx.Done():
		return ctx.Err()
	case <-b.life.Done():
		return bus.ErrClosed
	}
}

// firstError finds the error that tells most: of a transaction that was given up, that
// of the command that made it so. Without an error of a command, it is the connection's.
func (t trip) firstError(commands []goredis.Cmder, err error) error {
	if err == nil || !isAnswer(err) {
		return err
	}
	var first error
	failed := false
	for _, command := range commands {
		err := command.Err()
		failed = failed || err != nil
		switch {
		case err == nil, errors.Is(err, goredis.Nil), t.pardon != "" && strings.HasPrefix(err.Error(), t.pardon):
		case first == nil, isAbort(first):
			first = err
		}
	}
	if !failed {
		return err
	}
	return first
}

// isAnswer: the server said so itself.
func isAnswer(err error) bool { return errors.As(err, new(goredis.Error)) }

func isAbort(err error) bool { return goredis.HasErrorPrefix(err, "EXECABORT") }

// What Redis says to XADD where no id is left that an append could take, and to XINFO
// where there is no stream.
const (
	answerJammed    = "ERR The ID specified in XADD is equal or smaller"
	answerExhausted = "ERR The stream has exhausted the last possible ID"
	answerNoNumber  = "ERR Elements are too large to be stored" // it says so where the number is
	answerNoKey     = "ERR no such key"
)

// passing are the answers of a server that cannot serve now, and of one whose stream
// nobody can append to until a reader has begun it anew.
var passing = []string{
	"READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "BUSY", "NOREPLICAS", "MISCONF", "UNBLOCKED",
	"EXECABORT", "ERR max number of clients", answerJammed, answerExhausted, answerNoNumber,
}

// explain puts an error of a line into the words of the bus. The cause is kept as text,
// so that nobody mistakes a deadline of the network for one of their own.
func (b *Bus) explain(l *line, err error) error {
	if err == nil {
		return nil
	}
	cause := errors.New(err.Error())
	switch {
	case b.life.Err() != nil:
		return bus.ErrClosed
	case errors.Is(err, errOtherHistory), errors.Is(err, goredis.ErrClosed):
		b.redial(l)
		return errOtherHistory
	case errors.Is(err, errReplica), hasPrefix(err, "READONLY"):
		b.redial(l)
		return bus.ErrUnavailable.WithCause(cause)
	case errors.Is(err, errNoHistory):
		return fmt.Errorf("the bus: %w", err)
	case !isAnswer(err), hasPrefix(err, passing...):
		return bus.ErrUnavailable.WithCause(cause)
	case hasPrefix(err, "OOM"):
		return bus.ErrFull.WithCause(cause)
	case hasPrefix(err, "NOPERM", "NOAUTH", "WRONGPASS"):
		return ErrForbidden.WithCause(cause)
	}
	return fmt.Errorf("the bus: Redis answers: %w", cause)
}

func hasPrefix(err error, prefixes ...string) bool {
	for _, prefix := range prefixes {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}

// compare looks at the history that a server tells after what it was asked. If it is not
// that of the line any more, the next call is made on another.
func (b *Bus) compare(l *line, info string) (uint64, error) {
	history, err := historyOf(info)
	if err != nil {
		return 0, b.explain(l, err)
	}
	if history != l.history.Load() {
		b.redial(l)
	}
	return history, nil
}
