// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package backplane opens the bus that the configuration of a program names, for whichever
// party the program is.
package backplane

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/postgres"
	"gitlab.com/ampora/ampora/shared/bus/redis"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Config says where the bus is.
type Config struct {
	URL    conf.Secret `env:"AMPORA_BUS_URL" help:"The bus between gateways and control plane: redis:// or rediss:// (TLS) with user and password; postgres:// with a login of its own; on the control plane also the word postgres, for the database it has."`
	CAFile string      `env:"AMPORA_BUS_CA_FILE" help:"Authorities in PEM that verify a rediss:// server. Without it: those of the system."`
	Prefix string      `env:"AMPORA_BUS_PREFIX" envDefault:"ampora" help:"Begins every key in Redis. Installations that share a Redis differ in it."`
}

// ownDatabase is the URL of a control plane whose bus is in its database.
const ownDatabase = "postgres"

// Validate refuses what no program can use. That the URL is there at all is required by who opens it.
func (c *Config) Validate() error {
	var problems []error
	switch url := c.URL.Reveal(); {
	case url == "", url == ownDatabase, overPostgres(url), overRedis(url):
	default:
		problems = append(problems, errors.New("AMPORA_BUS_URL must begin with redis://, rediss:// or postgres://, or be the word postgres"))
	}
	if c.CAFile != "" && !strings.HasPrefix(c.URL.Reveal(), "rediss://") {
		problems = append(problems, errors.New("AMPORA_BUS_CA_FILE is for an AMPORA_BUS_URL that begins with rediss://"))
	}
	return errors.Join(problems...)
}

// Bus is a bus that says whether it can be used.
type Bus interface {
	bus.Bus
	// Check fails while the bus cannot be used, with a reason that quotes no secret.
	Check(ctx context.Context) error
}

// Open opens the bus for a gateway, or, if gateway is empty, for the control plane with its database. Redis need not be
// there yet, PostgreSQL must. Errors are sentences for the operator and quote no URL.
func (c *Config) Open(ctx context.Context, gateway identity.GatewayID, database conf.Secret, log *slog.Logger) (Bus, error) {
	url := c.URL.Reveal()
	switch {
	case overRedis(url):
		options, err := c.redisOptions()
		if err != nil {
			return nil, err
		}
		opened, err := redis.Open(url, options)
		if err != nil {
			return nil, fmt.Errorf("AMPORA_BUS_URL: %w", err)
		}
		return opened, nil
	case url == ownDatabase && gateway == "":
		url = database.Reveal()
		if !overPostgres(url) {
			return nil, errors.New("AMPORA_BUS_URL: the word postgres needs an AMPORA_DATABASE_URL that begins with postgres://")
		}
	case !overPostgres(url):
		return nil, errors.New("AMPORA_BUS_URL is required: redis://, rediss:// or postgres://")
	}
	opened, err := postgres.Open(ctx, url, postgres.Options{Gateway: gateway, Log: log})
	if err != nil {
		return nil, fmt.Errorf("AMPORA_BUS_URL: %w", err)
	}
	return opened, nil
}

func (c *Config) redisOptions() (redis.Options, error) {
	options := redis.Options{Prefix: c.Prefix}
	if c.CAFile == "" {
		return options, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return options, fmt.Errorf("AMPORA_BUS_CA_FILE: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return options, errors.New("AMPORA_BUS_CA_FILE: no certificate in PEM in it")
	}
	options.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	return options, nil
}

func overRedis(url string) bool {
	return strings.HasPrefix(url, "redis://") || strings.HasPrefix(url, "rediss://")
}

func overPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}
