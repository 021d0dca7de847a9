// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"net/http"
	"time"
)

// Times of a request whose handler gives itself no others.
const (
	requestTime = 10 * time.Second // for its body to arrive, wanted or not
	answerTime  = time.Minute      // for its answer to be made and taken
)

// Bounded gives requests their deadlines. net/http reads what a handler left of a body
// before it answers, and waits for whoever does not read: without a deadline a peer
// that nobody admitted holds a connection for ever. It lifts the deadline for reading
// itself when a body has come to its end, so a handler may take longer than that.
func Bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connection, now := http.NewResponseController(w), time.Now()
		_ = connection.SetReadDeadline(now.Add(requestTime))
		_ = connection.SetWriteDeadline(now.Add(answerTime))
		next.ServeHTTP(w, r)
	})
}
