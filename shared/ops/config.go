// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package ops

import "log/slog"

// Config is the part of a program's configuration that is about operating it; package conf reads it.
type Config struct {
	Addr      string     `env:"AMPORA_OPS_ADDR" envDefault:"127.0.0.1:8081" help:"Where health, metrics and profiles are served, in clear and without login: an address that operators alone can reach."`
	LogLevel  slog.Level `env:"AMPORA_LOG_LEVEL" envDefault:"INFO" help:"Least level that is logged: DEBUG, INFO, WARN or ERROR."`
	LogFormat LogFormat  `env:"AMPORA_LOG_FORMAT" envDefault:"json" help:"Form of log records: json or text."`
}
