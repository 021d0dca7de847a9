// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/shared/fault"
)

// Check is one condition without which the program should get no new work.
type Check struct {
	Name string
	// Probe returns nil when the condition holds. It runs on every request for
	// readiness, concurrently with the others, and must return when ctx is done.
	Probe func(ctx context.Context) error
}

// probeTime bounds one probe: below the usual second of an orchestrator's patience.
const probeTime = 900 * time.Millisecond

// health is the body of both health answers.
type health struct {
	OK     bool    `json:"ok"`
	Build  Build   `json:"build"`
	Checks []state `json:"checks,omitempty"` // in the order in which they were given
}

type state struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"` // a public sentence
}

// live answers 200 as long as the program can answer at all. It asks nothing else:
// a restart cures no database.
func live(response http.ResponseWriter, _ *http.Request) {
	write(response, health{OK: true, Build: Version()})
}

// ready answers 200 if all checks hold and 503 otherwise, with the state of each.
func ready(checks []Check, log *slog.Logger) http.HandlerFunc {
	return func(response http.ResponseWriter, request *http.Request) {
		ctx, cancel := context.WithTimeout(request.Context(), probeTime)
		defer cancel()
		answer := health{OK: true, Build: Version(), Checks: make([]state, len(checks))}
		var probes sync.WaitGroup
		for i, check := range checks {
			probes.Go(func() { answer.Checks[i] = probe(ctx, check, log) })
		}
		probes.Wait()
		for _, state := range answer.Checks {
			answer.OK = answer.OK && state.OK
		}
		write(response, answer)
	}
}

func probe(ctx context.Context, check Check, log *slog.Logger) state {
	err := check.Probe(ctx)
	if err == nil {
		return state{Name: check.Name, OK: true}
	}
	log.WarnContext(ctx, "a readiness check failed", "check", check.Name, "error", err)
	return state{Name: check.Name, Error: fault.From(err).Message}
}

func write(response http.ResponseWriter, answer health) {
	response.Header().Set("Content-Type", "application/json")
	response.Header().Set("Cache-Control", "no-store")
	if !answer.OK {
		response.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(response).Encode(answer) // the caller went away: nobody to tell
}
