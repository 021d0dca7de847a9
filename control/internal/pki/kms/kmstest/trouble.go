// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package kmstest

import (
	"net/http"
	"sync/atomic"
	"time"
)

// Trouble makes a server slow, or away: its connections break.
type Trouble struct {
	away atomic.Bool
	slow atomic.Int64
}

// Away takes the server away, or back.
func (t *Trouble) Away(away bool) { t.away.Store(away) }

// Slow has it take so long before it answers.
func (t *Trouble) Slow(by time.Duration) { t.slow.Store(int64(by)) }

// Suffer waits as long as it is slow, and says whether it is away.
func (t *Trouble) Suffer() (away bool) {
	time.Sleep(time.Duration(t.slow.Load()))
	return t.away.Load()
}

// Handler is a handler in trouble.
func (t *Trouble) Handler(of http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if t.Suffer() {
			panic(http.ErrAbortHandler)
		}
		of.ServeHTTP(w, r)
	})
}
