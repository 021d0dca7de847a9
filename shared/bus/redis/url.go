// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	neturl "net/url"
	"strconv"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// What can be wrong with a URL. None of the sentences quotes it: it holds a password.
var (
	errScheme  = errors.New("the URL of the bus must begin with redis:// or rediss://")
	errURL     = errors.New("the URL of the bus cannot be read; characters of a password other than letters and digits may have to be written as %XX")
	errHost    = errors.New("the URL of the bus names no host, or a port that is none")
	errDB      = errors.New("the URL of the bus must not name a database other than 0; installations that share a Redis differ in their prefix")
	errExtras  = errors.New("the URL of the bus must not have parameters or a fragment")
	errUser    = errors.New("the URL of the bus names a user without a password")
	errTLS     = errors.New("TLS options of the bus need a URL that begins with rediss://")
	errOptions = errors.New("the bounds of the bus must not be negative")
)

const defaultPort = "6379"

// clientOptions turns URL and options into those of the client library.
func clientOptions(url string, options Options) (*goredis.Options, error) {
	if options.MaxMessages < 0 || options.MaxBytes < 0 || options.Connections < 0 {
		return nil, errOptions
	}
	u, err := neturl.Parse(url)
	if err != nil {
		return nil, errURL // err quotes the URL, and with it the password
	}
	if err := checkURL(u, options); err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = defaultPort
	}
	password, _ := u.User.Password()
	client := &goredis.Options{
		Addr:        net.JoinHostPort(u.Hostname(), port),
		Username:    u.User.Username(),
		Password:    password,
		TLSConfig:   tlsConfig(u, options.TLS),
		DialTimeout: dialTimeout, DialerRetries: 1, ReadTimeout: ioTimeout, WriteTimeout: ioTimeout,
		PoolSize: DefaultConnections, PipelinePoolSize: -1,
		ConnMaxLifetime: connectionLife, ConnMaxLifetimeJitter: connectionLife / 10,
		// A repeated append might append twice; who called knows whether to repeat.
		MaxRetries: -1,
		// Nothing is asked of a server that the rules of acl.go do not allow.
		DisableIdentity: true, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
	if options.Connections > 0 {
		client.PoolSize = options.Connections
	}
	goredis.SetLogger(silence{})
	return client, nil
}

func checkURL(u *neturl.URL, options Options) error {
	_, hasPassword := u.User.Password()
	switch {
	case u.Scheme != "redis" && u.Scheme != "rediss":
		return errScheme
	case u.Hostname() == "" || !isPort(u.Port()):
		return errHost
	case u.Path != "" && u.Path != "/" && u.Path != "/0":
		return errDB
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return errExtras
	case u.User.Username() != "" && !hasPassword:
		return errUser
	case u.Scheme == "redis" && options.TLS != nil:
		return errTLS
	}
	return nil
}

func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return text == "" || err == nil && port != 0
}

func tlsConfig(u *neturl.URL, given *tls.Config) *tls.Config {
	if u.Scheme != "rediss" {
		return nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if given != nil {
		config = given.Clone()
		config.MinVersion = max(config.MinVersion, tls.VersionTLS12)
	}
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	return config
}

// silence keeps the client library from writing to standard error: whatever it says is
// also in the error of a call.
type silence struct{}

// Printf drops its arguments.
func (silence) Printf(context.Context, string, ...any) {}
