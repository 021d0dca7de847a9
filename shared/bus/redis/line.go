// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/run"
)

// Patience with the network. A call that meets one of these is [bus.ErrUnavailable].
const (
	dialTimeout = 3 * time.Second
	ioTimeout   = 5 * time.Second
	// connectionLife bounds how long an address is believed to lead where it led.
	connectionLife = time.Minute
)

// line is the connections to one primary during one history of it. Each connection is
// asked for the history when it is made, so what is appended over a line can be stamped
// with it beforehand.
type line struct {
	client  *goredis.Client
	history atomic.Uint64 // 0 before the first connection
}

// Why a connection is of no use for a line.
var (
	errReplica      = errors.New("the address of the bus leads to a replica")
	errOtherHistory = errors.New("the primary has another history now")
	errNoHistory    = errors.New("INFO does not tell role and master_replid, without which a failover that lost messages could not be seen")
)

func newLine(options goredis.Options) *line {
	l := &line{}
	options.OnConnect = func(ctx context.Context, connection *goredis.Conn) error {
		info, err := connection.Info(ctx, "replication").Result()
		if err != nil {
			return err
		}
		history, err := historyOf(info)
		if err == nil && !l.history.CompareAndSwap(0, history) && l.history.Load() != history {
			return errOtherHistory
		}
		return err
	}
	l.client = goredis.NewClient(&options)
	return l
}

// stamp is that of an entry to append over the line.
func (l *line) stamp(nonce uint64) []byte { return stamp(l.history.Load(), nonce) }

// redial puts a new line in the place of one that leads to a replica or to the past. What
// is under way on the old one may still come to its end.
func (b *Bus) redial(old *line) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.life.Err() != nil || b.line.Load() != old {
		return
	}
	b.line.Store(newLine(*b.options))
	b.finished.Go(func() {
		_ = run.Sleep(b.life, ioTimeout)
		_ = old.client.Close()
	})
}

// historyOf reads the history out of a primary's INFO: the replication id, shortened. The
// primary draws a new id when it starts and when it is promoted, so no two timelines have
// the same.
func historyOf(info string) (uint64, error) {
	id := infoField(info, "master_replid")
	switch role := infoField(info, "role"); {
	case role == "slave":
		return 0, errReplica
	case role != "master" || id == "":
		return 0, errNoHistory
	}
	sum := sha256.Sum256([]byte(id))
	return max(binary.BigEndian.Uint64(sum[:]), 1), nil
}

// newEnough: streams that number entries by themselves came with Redis 7.0.
func newEnough(info string) bool {
	major, _, _ := strings.Cut(infoField(info, "redis_version"), ".")
	version, err := strconv.Atoi(major)
	return err == nil && version >= 7
}

// infoField is the value of a line "name:value".
func infoField(info, name string) string {
	for text := range strings.Lines(info) {
		if value, found := strings.CutPrefix(text, name+":"); found {
			return strings.TrimRight(value, "\r\n")
		}
	}
	return ""
}
