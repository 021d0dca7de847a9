// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package session

import "time"

// Rate limit of one session. An agent sends a burst of some ten messages when it
// starts and one in 30 s afterwards.
const (
	MessagesPerSecond = 50
	MessageBurst      = 200
)

// PaceOfMessages is the time in which the bucket gains one token.
const PaceOfMessages = time.Second / MessagesPerSecond

// Bucket is a token bucket as a value. The zero value is full.
type Bucket struct {
	tokens float64
	at     time.Time
}

// FullBucket is a bucket that allows a whole burst.
func FullBucket(now time.Time) Bucket { return Bucket{tokens: MessageBurst, at: now} }

// Take refills the bucket for the time passed and takes one token, if there is one.
func (b Bucket) Take(now time.Time) (Bucket, bool) {
	if passed := now.Sub(b.at); passed > 0 {
		b.tokens = min(MessageBurst, b.tokens+passed.Seconds()*MessagesPerSecond)
		b.at = now
	}
	if b.tokens < 1 {
		return b, false
	}
	b.tokens--
	return b, true
}
