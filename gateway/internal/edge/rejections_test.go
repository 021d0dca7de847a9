// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package edge

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/metric/noop"
)

func TestFloodOfRejectionsIsNoFloodOfLines(t *testing.T) {
	var log bytes.Buffer
	now := noon
	r, err := NewRejections(slog.New(slog.NewTextHandler(&log, nil)), noop.Meter{}, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		r.Reject(t.Context(), Malformed, errors.New("bad"))
	}
	r.Reject(t.Context(), Oversize, nil) // another reason has lines of its own
	if n := strings.Count(log.String(), "\n"); n != linesPerSecond+1 {
		t.Errorf("%d lines were logged", n)
	}
	log.Reset()
	now = now.Add(time.Second)
	r.Reject(t.Context(), Malformed, nil)
	if !strings.Contains(log.String(), "not_logged_before=80") {
		t.Errorf("the next line is %s", log.String())
	}
}
