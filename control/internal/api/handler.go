// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"
	connectcors "connectrpc.com/cors"
	"github.com/rs/cors"
)

// MaxRequestBytes bounds a request as it arrives and after decompression: the longest body of a configuration, twice.
const MaxRequestBytes = 16 << 20

// preflightSeconds is how long a browser may remember what another origin may do: two hours, the most Chromium allows.
const preflightSeconds = 7200

// NewHandler serves the server's procedures over HTTP. Pages of the given origins ("https://fleet.example.com") may
// call it from a browser; with none, only pages of its own origin can. It sets no cookie and reads none: what
// authenticates a call is its Authorization header alone, so no page can borrow a caller's authority.
func NewHandler(server *connect.Server, origins []string) http.Handler {
	mux := http.NewServeMux()
	connecthttp.Mount(mux, server, connecthttp.WithReadMaxBytes(MaxRequestBytes))
	handler := withoutSlowPeers(uncached(mux), peerTime)
	if len(origins) == 0 {
		return handler
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: connectcors.AllowedMethods(),
		AllowedHeaders: append(connectcors.AllowedHeaders(), "Authorization"),
		ExposedHeaders: connectcors.ExposedHeaders(),
		MaxAge:         preflightSeconds,
	}).Handler(handler)
}

// uncached keeps answers out of caches: reads may come as GET, and what they answer depends on who asks.
func uncached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}
