// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	"gitlab.com/ampora/ampora/gateway/internal/opamp"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Config is what an operator can set. It is read by package conf as part of the
// configuration of ampora-gateway and of ampora.
type Config struct {
	GatewayID   string `env:"AMPORA_GATEWAY_ID" envDefault:"gateway-1" help:"Name of this gateway, 1 to 63 characters of a-z, 0-9 and '-'. No two gateways share one."`
	Addr        string `env:"AMPORA_OPAMP_ADDR" envDefault:"127.0.0.1:4320" help:"Where agents connect, host:port. Always TLS; the path is /v1/opamp."`
	PublicURL   string `env:"AMPORA_OPAMP_PUBLIC_URL" help:"What agents are told to connect to when they are given a certificate: wss:// or https://. Empty: wss:// at AMPORA_OPAMP_ADDR, which then must name one address."`
	TLSCertFile string `env:"AMPORA_OPAMP_TLS_CERT_FILE" help:"Certificate chain of the OpAMP listener, PEM. Read again when it changes."`
	TLSKeyFile  string `env:"AMPORA_OPAMP_TLS_KEY_FILE" help:"Key of that certificate, PEM."`
	ServerCA    string `env:"AMPORA_OPAMP_SERVER_CA_FILE" help:"Certificates, PEM, that agents shall verify this server with. Empty means their system's roots."`

	AllowedCapabilities []string `env:"AMPORA_OPAMP_ALLOWED_CAPABILITIES" help:"Names of agent capabilities the server may use, comma separated (AcceptsRemoteConfig, ...). Empty means all that are implemented."`
	MaxMessageBytes     int      `env:"AMPORA_OPAMP_MAX_MESSAGE_BYTES" envDefault:"10485760" help:"Largest message from an agent in bytes, after decompression."`
	MaxSessions         int      `env:"AMPORA_MAX_SESSIONS" envDefault:"60000" help:"Connections open at a time; others are told to come back later."`
	MaxHandshakes       int      `env:"AMPORA_OPAMP_MAX_HANDSHAKES" envDefault:"64" help:"TLS handshakes that compute at a time; others wait."`

	IdleTimeout  time.Duration `env:"AMPORA_OPAMP_IDLE_TIMEOUT" envDefault:"90s" help:"Silence after which an agent's session ends."`
	PingInterval time.Duration `env:"AMPORA_OPAMP_PING_INTERVAL" envDefault:"30s" help:"Silence after which a WebSocket is pinged."`
	FrameTimeout time.Duration `env:"AMPORA_OPAMP_FRAME_TIMEOUT" envDefault:"10s" help:"Time for a WebSocket message to arrive, for each MiB of it."`
	WriteTimeout time.Duration `env:"AMPORA_OPAMP_WRITE_TIMEOUT" envDefault:"10s" help:"Time for an agent to take what is written to it, before it is disconnected."`

	TrustMaxAge   time.Duration `env:"AMPORA_TRUST_MAX_AGE" envDefault:"5m" help:"Age of the trust snapshot from which nobody is admitted any more."`
	DrainDuration time.Duration `env:"AMPORA_DRAIN_DURATION" envDefault:"10s" help:"Time over which connections are closed when the gateway stops."`
}

// Endpoint is what agents are told to connect to.
func (c Config) Endpoint() string {
	if c.PublicURL != "" {
		return c.PublicURL
	}
	return "wss://" + c.Addr + opamp.Path
}

// namesOneAddress says whether a listen address is one that can be connected to.
func namesOneAddress(addr string) bool {
	host, port, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	return err == nil && host != "" && port != "0" && (ip == nil || !ip.IsUnspecified())
}

// Validate says what is wrong or contradictory, all of it joined.
func (c Config) Validate() error {
	var wrong []error
	refuse := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	if _, err := identity.ParseTenantID(c.GatewayID); err != nil { // the rule of tenant names
		refuse("AMPORA_GATEWAY_ID must have 1 to 63 characters of a-z, 0-9 and '-'")
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		refuse("AMPORA_OPAMP_ADDR must be host:port")
	}
	if c.PublicURL == "" && !namesOneAddress(c.Addr) {
		refuse("AMPORA_OPAMP_PUBLIC_URL is required: AMPORA_OPAMP_ADDR names no single address that agents could be told")
	} else if u, err := url.Parse(c.Endpoint()); err != nil || u.Host == "" || u.Scheme != "wss" && u.Scheme != "https" {
		refuse("AMPORA_OPAMP_PUBLIC_URL must be a wss:// or https:// address")
	}
	if (c.TLSCertFile == "") != (c.TLSKeyFile == "") {
		refuse("AMPORA_OPAMP_TLS_CERT_FILE and AMPORA_OPAMP_TLS_KEY_FILE go together")
	}
	if _, err := opamp.ParseMask(c.AllowedCapabilities); err != nil {
		refuse("AMPORA_OPAMP_ALLOWED_CAPABILITIES: %w", err)
	}
	return errors.Join(append(wrong, c.validateBounds())...)
}

func (c Config) validateBounds() error {
	var wrong []error
	refuse := func(sentence string) { wrong = append(wrong, errors.New(sentence)) }
	if c.MaxMessageBytes < 1024 || c.MaxMessageBytes > 1<<30 {
		refuse("AMPORA_OPAMP_MAX_MESSAGE_BYTES must be between 1024 and 1073741824")
	}
	if c.MaxSessions < 1 || c.MaxHandshakes < 1 {
		refuse("AMPORA_MAX_SESSIONS and AMPORA_OPAMP_MAX_HANDSHAKES must be positive")
	}
	if min(c.IdleTimeout, c.PingInterval, c.FrameTimeout, c.WriteTimeout, c.TrustMaxAge) <= 0 || c.DrainDuration < 0 {
		refuse("the timeouts and AMPORA_TRUST_MAX_AGE must be positive, and AMPORA_DRAIN_DURATION not negative")
	}
	if c.PingInterval >= c.IdleTimeout {
		refuse("AMPORA_OPAMP_PING_INTERVAL must be shorter than AMPORA_OPAMP_IDLE_TIMEOUT, or a quiet agent is never asked")
	}
	return errors.Join(wrong...)
}

func (c Config) limits() opamp.Limits {
	return opamp.Limits{
		MessageBytes: c.MaxMessageBytes, FrameTime: c.FrameTimeout, WriteTime: c.WriteTimeout,
		PingInterval: c.PingInterval, IdleTime: c.IdleTimeout,
	}
}
