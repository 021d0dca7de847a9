// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package yardstick

import (
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"
)

// Control serves what a measurement needs besides agents:
//
//	POST /push?hash=HEX        sends the body as a configuration to all, and answers when
//	                           it is done: how many were sent, and in how many seconds
//	GET  /metrics              memory, connections and messages, as Prometheus reads them
//	GET  /debug/pprof/         profiles; /debug/pprof/heap?gc=1 collects garbage first
func (s *Server) Control() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /push", s.push)
	mux.HandleFunc("GET /metrics", s.metrics)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	return mux
}

// maxBody bounds a configuration.
const maxBody = 1 << 20

func (s *Server) push(w http.ResponseWriter, r *http.Request) {
	hash, err := hex.DecodeString(r.URL.Query().Get("hash"))
	if err != nil || len(hash) == 0 {
		http.Error(w, "hash is hexadecimal", http.StatusBadRequest)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	begin := time.Now()
	sent := s.Push(r.Context(), hash, body)
	fmt.Fprintf(w, "%d %f\n", sent, time.Since(begin).Seconds())
}

func (s *Server) metrics(w http.ResponseWriter, _ *http.Request) {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	for _, each := range []struct {
		name  string
		value any
	}{
		{"go_goroutines", runtime.NumGoroutine()},
		{"go_memstats_heap_inuse_bytes", m.HeapInuse},
		{"go_memstats_stack_inuse_bytes", m.StackInuse},
		{"yardstick_connections", len(s.connections())},
		{"yardstick_messages_total", s.messages.Load()},
	} {
		fmt.Fprintf(w, "%s %v\n", each.name, each.value)
	}
}
