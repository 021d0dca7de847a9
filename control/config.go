// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/validator"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Mode says how strict a program is about its configuration.
type Mode string

// The modes. Development makes up what is missing (a master key, server certificates) and lets the developer in without
// a token; production does neither and refuses SQLite.
const (
	Production  Mode = "production"
	Development Mode = "development"
)

// UnmarshalText accepts the two modes.
func (m *Mode) UnmarshalText(text []byte) error {
	switch Mode(text) {
	case Production, Development:
		*m = Mode(text)
		return nil
	default:
		return errors.New("must be production or development")
	}
}

// Database says where the state is.
type Database struct {
	URL conf.Secret `env:"AMPORA_DATABASE_URL" help:"Where the state is: postgres://user@host/database, or sqlite:PATH for development. It may hold a password."`
	// Wait bounds how long a start waits for a database that is away.
	Wait time.Duration `env:"AMPORA_DATABASE_WAIT" envDefault:"30s" help:"How long a start waits for a database that cannot be reached before it gives up."`
}

// Keys are the secrets that protect what is stored.
type Keys struct {
	Master   conf.Secret `env:"AMPORA_MASTER_KEY" help:"Base64 of the 32 bytes under which all keys in the database are wrapped. Required in production; in development one is made and kept in AMPORA_DATA_DIR."`
	Previous conf.Secret `env:"AMPORA_PREVIOUS_MASTER_KEY" help:"Another master key under which records open, while it is being replaced: the former one, or at first the next."`
}

// API is the public listener.
type API struct {
	Addr        string   `env:"AMPORA_HTTP_ADDR" envDefault:"127.0.0.1:8080" help:"Where the public API listens. Equal to AMPORA_OPAMP_ADDR: one shared TLS port."`
	CertFile    string   `env:"AMPORA_HTTP_TLS_CERT_FILE" help:"Certificate chain of the API in PEM. Read again when it changes. Without it the API speaks plain HTTP, on loopback addresses only."`
	KeyFile     string   `env:"AMPORA_HTTP_TLS_KEY_FILE" help:"Private key of the API's certificate in PEM."`
	CORSOrigins []string `env:"AMPORA_CORS_ORIGINS" help:"Origins of web pages that may call the API, separated by commas. None by default."`
}

// PKI is what certificates say, and where others find what is revoked.
type PKI struct {
	Addr        string `env:"AMPORA_PKI_ADDR" envDefault:"127.0.0.1:8082" help:"Where revocation lists, OCSP answers and the trust bundle are handed out, host:port: plain http, to anybody."`
	TrustDomain string `env:"AMPORA_TRUST_DOMAIN" help:"Host part of every identity (spiffe://TRUST-DOMAIN/…). Fixed at the first start. Required in production; default in development: ampora.local."`
	PublicURL   string `env:"AMPORA_PKI_PUBLIC_URL" envDefault:"http://127.0.0.1:8082" help:"Base of the revocation URLs in certificates: plain http, reachable by whoever checks them."`
	Nonces      bool   `env:"AMPORA_PKI_OCSP_NONCE" help:"Give whoever asks over OCSP with a nonce an answer of that moment. It costs a signature each; without it, answers are made once for 12 hours."`
	Algorithm   string `env:"AMPORA_PKI_ALGORITHM" envDefault:"ecdsa-p256" help:"Kind of new keys of certificate authorities: ecdsa-p256 or rsa-3072."`
	// Trusted is for how long a signing key is trusted at least after another one has followed it.
	Trusted        time.Duration `env:"AMPORA_PKI_TRUSTED_PERIOD" envDefault:"720h" help:"How long a signing key that another has followed is trusted at least. Then it is retired as soon as no agent needs it."`
	LeafLifetime   time.Duration `env:"AMPORA_PKI_LEAF_LIFETIME" envDefault:"8760h" help:"How long the certificate of an agent is valid. An agent that is away for longer than half of it may have to enrol anew."`
	RenewBefore    time.Duration `env:"AMPORA_PKI_RENEW_BEFORE" envDefault:"720h" help:"How long before its end the certificate of an agent is replaced, or told of: at most half of its life, whatever this says."`
	RotationWindow time.Duration `env:"AMPORA_PKI_ROTATION_WINDOW" envDefault:"24h" help:"Over how long the certificates of agents are replaced once another signing key has taken the place of the one that signed them."`
	// KMS is where new keys of authorities are made, and Others where older ones are.
	KMS        string        `env:"AMPORA_PKI_KMS" help:"Key service in which new keys of certificate authorities are made: a URI of the scheme pkcs11, awskms, azurekms, cloudkms or vaulttransit, without secrets. Empty: they are made here and kept in the database. ampora has no key services, ampora-control has."`
	KMSOthers  []string      `env:"AMPORA_PKI_KMS_OTHERS" help:"Further key services, with keys that go on being used. One of each scheme."`
	KMSTimeout time.Duration `env:"AMPORA_PKI_KMS_TIMEOUT" envDefault:"5s" help:"How long a key service may take for a signature, with all that is tried again."`
}

// Validator is where builds of the Collector are asked themselves.
type Validator struct {
	URL string `env:"AMPORA_VALIDATOR_URL" help:"Where ampora-validator is asked what builds of the Collector say of a configuration: unix:/PATH, or http://ADDRESS:PORT with a loopback address. Empty: none is asked."`
}

// open returns what asks it; nil if there is none.
func (v Validator) open(log *slog.Logger) (*validator.Client, error) {
	client, err := validator.New(v.URL, log)
	if err != nil {
		return nil, fmt.Errorf("AMPORA_VALIDATOR_URL %w", err)
	}
	return client, nil
}

// Internal is the service that gateways of other processes call.
type Internal struct {
	Addr string `env:"AMPORA_INTERNAL_ADDR" help:"Where gateways of other processes call the control plane, host:port. Always mutual TLS, with certificates of its own making."`
}

// longestLeaf is how long the certificate of an agent is valid at most.
const longestLeaf = 10 * 365 * 24 * time.Hour

// Config is the configuration of the control plane.
type Config struct {
	Database Database
	Keys     Keys
	API      API
	PKI      PKI
	Internal Internal
	// Validator is optional.
	Validator Validator
	// Tenant is the tenant of a fresh installation.
	Tenant string `env:"AMPORA_TENANT" envDefault:"default" help:"Tenant that a fresh installation begins with: lower-case letters, digits and hyphens."`
	// EventRetention bounds the history.
	EventRetention time.Duration `env:"AMPORA_EVENT_RETENTION" envDefault:"720h" help:"How long events of the fleet, which are the history of agents, are kept."`
	// ImmediateLimit is fleet.ImmediateLimit, unless the operator knows better.
	ImmediateLimit int `env:"AMPORA_IMMEDIATE_LIMIT" envDefault:"20" help:"How many agents one act may change at once, such as assigning a configuration to a group. More need a rollout."`
}

// maxKMSTimeout leaves of the 20 s that a gateway waits for a certificate what the database may need.
const maxKMSTimeout = 15 * time.Second

// Validate refuses what contradicts itself whatever the mode is.
func (c *Config) Validate() error {
	_, asking := c.Validator.open(nil)
	problems := []error{asking}
	if (c.API.CertFile == "") != (c.API.KeyFile == "") {
		problems = append(problems, errors.New("AMPORA_HTTP_TLS_CERT_FILE and AMPORA_HTTP_TLS_KEY_FILE belong together: set both or none"))
	}
	if _, err := identity.ParseTenantID(c.Tenant); err != nil {
		problems = append(problems, fmt.Errorf("AMPORA_TENANT: %w", err))
	}
	if u, err := url.Parse(c.PKI.PublicURL); err != nil || u.Scheme != "http" || u.Host == "" {
		problems = append(problems, errors.New("AMPORA_PKI_PUBLIC_URL must be an http:// URL: a certificate cannot be checked through TLS that needs checking"))
	}
	if err := pki.Algorithm(c.PKI.Algorithm).Check(); err != nil {
		problems = append(problems, fmt.Errorf("AMPORA_PKI_ALGORITHM: %w", err))
	}
	if c.PKI.KMSTimeout < time.Second || c.PKI.KMSTimeout > maxKMSTimeout {
		problems = append(problems, fmt.Errorf("AMPORA_PKI_KMS_TIMEOUT must be from 1s to %s: whoever enrols waits for it", maxKMSTimeout))
	}
	if c.PKI.LeafLifetime < time.Minute || c.PKI.LeafLifetime > longestLeaf {
		problems = append(problems, fmt.Errorf("AMPORA_PKI_LEAF_LIFETIME must be between 1m and %s", longestLeaf))
	}
	if c.PKI.RenewBefore < time.Minute {
		problems = append(problems, errors.New("AMPORA_PKI_RENEW_BEFORE must be at least 1m"))
	}
	if c.PKI.RotationWindow < time.Minute {
		problems = append(problems, errors.New("AMPORA_PKI_ROTATION_WINDOW must be at least 1m"))
	}
	if c.EventRetention < time.Hour {
		problems = append(problems, errors.New("AMPORA_EVENT_RETENTION must be at least 1h"))
	}
	if c.ImmediateLimit < 1 {
		problems = append(problems, errors.New("AMPORA_IMMEDIATE_LIMIT must be at least 1"))
	}
	return errors.Join(problems...)
}

// Check refuses what the mode does not allow. shared says that the API is served on the gateway's TLS port. Open calls
// it; a program may before it touches anything.
func (c *Config) Check(mode Mode, shared bool) error {
	var problems []error
	if c.Database.URL.IsZero() {
		problems = append(problems, errors.New("AMPORA_DATABASE_URL is required"))
	}
	if c.API.CertFile == "" && !shared && !loopback(c.API.Addr) {
		problems = append(problems, errors.New("AMPORA_HTTP_ADDR is not a loopback address, so AMPORA_HTTP_TLS_CERT_FILE and AMPORA_HTTP_TLS_KEY_FILE are required: API tokens must not cross a network in clear"))
	}
	if mode == Production {
		if strings.HasPrefix(c.Database.URL.Reveal(), "sqlite:") {
			problems = append(problems, errors.New("AMPORA_DATABASE_URL: SQLite is for development; use postgres:// in production"))
		}
		if c.Keys.Master.IsZero() {
			problems = append(problems, errors.New("AMPORA_MASTER_KEY is required in production; make one with: openssl rand -base64 32"))
		}
		if c.PKI.TrustDomain == "" {
			problems = append(problems, errors.New("AMPORA_TRUST_DOMAIN is required in production, and fixed at the first start"))
		}
	}
	return errors.Join(problems...)
}

// loopback reports whether a listen address can be reached from this machine alone.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
