// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"io"
	"net/http"
	"time"
)

// peerTime is how long a peer may take to send its request, and to read each piece of an answer. The context of a call
// does not end a read or a write that waits for the peer: without a deadline of its own a connection, and whatever
// serves it, would be held for as long as the peer likes, before anybody knows who it is.
const peerTime = 30 * time.Second

// answerPiece is the most that is written under one deadline, so that what a peer may take grows with what it gets.
const answerPiece = 64 << 10

// withoutSlowPeers cuts off whoever does not send its request or does not read its answer. Streams may be silent for as
// long as they like; only what is being written has a deadline.
func withoutSlowPeers(next http.Handler, limit time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer := &peer{ResponseWriter: w, conn: http.NewResponseController(w), limit: limit}
		if r.Body != nil && r.Body != http.NoBody {
			_ = peer.conn.SetReadDeadline(time.Now().Add(limit)) // where it is not supported, it is a test's recorder
			r.Body = &sentBody{ReadCloser: r.Body, conn: peer.conn}
		}
		next.ServeHTTP(peer, r)
		// What is left in buffers is written after this, and the server takes the deadline off again.
		_ = peer.conn.SetWriteDeadline(time.Now().Add(limit))
	})
}

// sentBody takes the deadline off when the request is read: from then on the server reads only to learn that the peer
// has gone.
type sentBody struct {
	io.ReadCloser
	conn *http.ResponseController
}

// Read reads the request.
func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return n, err //nolint:wrapcheck // io.EOF must stay io.EOF
}

// peer writes an answer in pieces, each under a deadline.
type peer struct {
	http.ResponseWriter
	conn  *http.ResponseController
	limit time.Duration
}

// Write writes to the peer.
func (p *peer) Write(answer []byte) (written int, err error) {
	for {
		piece := answer[written:min(len(answer), written+answerPiece)]
		var n int
		err = p.timed(func() (err error) { n, err = p.ResponseWriter.Write(piece); return err })
		written += n
		if err != nil || written == len(answer) {
			return written, err
		}
	}
}

// FlushError is how http.ResponseController flushes.
func (p *peer) FlushError() error { return p.timed(p.conn.Flush) }

// Flush implements http.Flusher. A peer that is gone shows at the next Write.
func (p *peer) Flush() { _ = p.FlushError() }

// Unwrap is for http.ResponseController.
func (p *peer) Unwrap() http.ResponseWriter { return p.ResponseWriter }

// timed writes under a deadline and takes it off again: over HTTP/2 it would end a stream that is merely silent.
func (p *peer) timed(write func() error) error {
	_ = p.conn.SetWriteDeadline(time.Now().Add(p.limit))
	defer func() { _ = p.conn.SetWriteDeadline(time.Time{}) }()
	return write()
}
