// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import (
	"errors"
	"log/slog"

	"gitlab.com/ampora/ampora/shared/ops/otlp"
)

// Config is the part of a program's configuration that is about operating it; package conf reads it.
type Config struct {
	Addr      string     `env:"AMPORA_OPS_ADDR" envDefault:"127.0.0.1:8081" help:"Where health, metrics and profiles are served, in clear and without login: an address that operators alone can reach."`
	LogLevel  slog.Level `env:"AMPORA_LOG_LEVEL" envDefault:"INFO" help:"Least level that is logged: DEBUG, INFO, WARN or ERROR."`
	LogFormat LogFormat  `env:"AMPORA_LOG_FORMAT" envDefault:"json" help:"Form of log records: json or text."`

	OTLP otlp.Config
	// TraceRatio is of traces that begin with what an agent says, or with a question of the API.
	TraceRatio float64 `env:"AMPORA_TRACE_RATIO" envDefault:"0.01" help:"Share of traces that are recorded where AMPORA_OTLP_ENDPOINT is set, from 0 to 1. Calls of the API that change something are recorded in any case."`
}

// Validate says what is wrong or contradictory, all of it joined.
func (c Config) Validate() error {
	var ratio error
	if !(c.TraceRatio >= 0 && c.TraceRatio <= 1) {
		ratio = errors.New("AMPORA_TRACE_RATIO must be between 0 and 1")
	}
	return errors.Join(ratio, c.OTLP.Validate())
}
