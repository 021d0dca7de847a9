// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options are the parts of an operations listener; all but Checks are required.
type Options struct {
	Checks   []Check              // of /health/ready
	Registry *prometheus.Registry // of /metrics
	Log      *slog.Logger
}

// Limits of a request. The profiles are the slowest answers: 30 seconds where the
// caller asks for no other time.
const (
	headerTime   = 5 * time.Second
	readTime     = 10 * time.Second
	writeTime    = 2 * time.Minute
	idleTime     = time.Minute
	shutdownTime = 5 * time.Second
	maxHeader    = 16 << 10
)

// Handler serves the operations paths:
//
//	/health/live    200 while the program answers
//	/health/ready   200 or 503, with the state of every check in JSON
//	/metrics        the registry, in Prometheus' or OpenMetrics' text format
//	/debug/pprof/   profiles
func Handler(options Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/live", live)
	mux.HandleFunc("GET /health/ready", ready(options.Checks, options.Log))
	mux.Handle("GET /metrics", promhttp.HandlerFor(options.Registry, promhttp.HandlerOpts{
		Registry:            options.Registry,
		ErrorLog:            slog.NewLogLogger(options.Log.Handler(), slog.LevelError),
		ErrorHandling:       promhttp.ContinueOnError, // most metrics are better than none
		MaxRequestsInFlight: 4,
		EnableOpenMetrics:   true,
	}))
	// net/http/pprof also registers itself with http.DefaultServeMux, which no
	// listener of ours serves.
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// Serve answers the operations paths on a listener until ctx is done, and closes
// the listener. Requests that still run then have five seconds. The error is nil
// unless the listener failed.
func Serve(ctx context.Context, listener net.Listener, options Options) error {
	server := &http.Server{
		Handler:           Handler(options),
		ReadHeaderTimeout: headerTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(options.Log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve operations: %w", err)
	case <-ctx.Done():
	}
	brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if err := server.Shutdown(brief); errors.Is(err, context.DeadlineExceeded) {
		_ = server.Close()
	}
	if err := <-failed; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve operations: %w", err)
	}
	return nil
}
