// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/fault"
)

// answer is an error that a server gave.
type answer string

func (a answer) Error() string { return string(a) }
func (a answer) RedisError()   {}

func TestExplain(t *testing.T) {
	b := open(t, "redis://localhost", "")
	for _, try := range []struct{ err, want error }{
		{nil, nil},
		{io.EOF, bus.ErrUnavailable},
		{context.DeadlineExceeded, bus.ErrUnavailable},
		{goredis.ErrPoolTimeout, bus.ErrUnavailable},
		{answer("LOADING Redis is loading the dataset in memory"), bus.ErrUnavailable},
		{answer("READONLY You can't write against a read only replica."), bus.ErrUnavailable},
		{answer("MASTERDOWN Link with MASTER is down"), bus.ErrUnavailable},
		{answer("NOREPLICAS Not enough good replicas to write."), bus.ErrUnavailable},
		{answer("MISCONF Redis is configured to save RDB snapshots"), bus.ErrUnavailable},
		{answer("ERR max number of clients reached"), bus.ErrUnavailable},
		{answer("ERR The ID specified in XADD is equal or smaller than the target stream top item"), bus.ErrUnavailable},
		{answer("OOM command not allowed when used memory > 'maxmemory'."), bus.ErrFull},
		{answer("NOPERM this user has no permissions to run the 'xadd' command"), ErrForbidden},
		{answer("NOAUTH Authentication required."), ErrForbidden},
		{answer("WRONGPASS invalid username-password pair or user is disabled."), ErrForbidden},
		{errReplica, bus.ErrUnavailable},
		{errOtherHistory, errOtherHistory},
		{goredis.ErrClosed, errOtherHistory},
		{errNoHistory, errNoHistory},
	} {
		got := b.explain(b.line.Load(), try.err)
		if !errors.Is(got, try.want) {
			t.Errorf("%v became %v, want %v", try.err, got, try.want)
		}
		if errors.Is(got, context.DeadlineExceeded) {
			t.Errorf("%v would be taken for an end of the caller's context", got)
		}
	}
	got := b.explain(b.line.Load(), answer("MOVED 1 10.0.0.1:6379"))
	if fault.From(got).Reason != fault.ReasonInternal || !strings.Contains(got.Error(), "MOVED") {
		t.Errorf("what nobody expects became %v", got)
	}
	_ = b.Close()
	if got := b.explain(b.line.Load(), io.EOF); !errors.Is(got, bus.ErrClosed) {
		t.Errorf("an error of a closed bus became %v", got)
	}
}
