// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"cmp"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.step.sm/crypto/kms/uri"
)

// Config says which key services there are.
type Config struct {
	// Home is the URI of the service in which new keys are made; empty: in none.
	Home string
	// Others are services with keys that go on being used. No two services are of one scheme.
	Others []string
	// Limit is how long a signature may take, with all that is tried again; 0: [DefaultLimit]. Making a key may take half
	// a minute.
	Limit time.Duration
}

// DefaultLimit is how long a signature may take.
const DefaultLimit = 5 * time.Second

// Deps are what Services need.
type Deps struct {
	// Drivers are those that the program has.
	Drivers []Driver
	Log     *slog.Logger
	Meter   metric.Meter
}

// Services are the key services of an installation. The nil Services have none.
type Services struct {
	home string // the scheme, or ""
	of   map[string]*service
	log  *slog.Logger
	all  []string // the schemes that there are drivers for
}

// Open checks the configuration and asks nobody. Its errors name the part of the configuration, "home" or "others".
func Open(c Config, d Deps) (*Services, error) {
	s := &Services{of: map[string]*service{}, log: d.Log}
	for _, driver := range d.Drivers {
		s.all = append(s.all, driver.Scheme)
	}
	add := func(text string) (string, error) {
		u, err := parse(text)
		if err != nil {
			return "", err
		}
		at := slices.IndexFunc(d.Drivers, func(driver Driver) bool { return driver.Scheme == u.Scheme })
		if at < 0 {
			return "", s.notBuilt(u.Scheme)
		}
		if err := d.Drivers[at].CheckService(u); err != nil {
			return "", fmt.Errorf("%s: %w", u.Scheme, err)
		}
		if s.of[u.Scheme] != nil {
			return "", fmt.Errorf("%s is there twice: one key service of each kind can be used", u.Scheme)
		}
		s.of[u.Scheme] = newService(d.Drivers[at], u, cmp.Or(c.Limit, DefaultLimit), d.Log)
		return u.Scheme, nil
	}
	if c.Home != "" {
		home, err := add(c.Home)
		if err != nil {
			return nil, &ConfigError{Home: true, Err: err}
		}
		s.home = home
	}
	for _, other := range c.Others {
		if _, err := add(other); err != nil {
			return nil, &ConfigError{Err: err}
		}
	}
	measured, err := measure(d.Meter, s)
	for _, of := range s.of {
		of.health.measured = measured
	}
	return s, err
}

// ConfigError is what is wrong with the URI of a key service: that of Config.Home, or one of the others.
type ConfigError struct {
	Home bool
	Err  error
}

// Error is a sentence for the operator; it repeats no value of the URI.
func (e *ConfigError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *ConfigError) Unwrap() error { return e.Err }

func (s *Services) notBuilt(scheme string) error {
	if len(s.all) == 0 {
		return errors.New("this program is built without key services: ampora-control has them")
	}
	if scheme == "pkcs11" {
		return errors.New("this program is built without pkcs11, which needs cgo: build one that has it with make pkcs11")
	}
	return fmt.Errorf("%q is none of the key services that this program is built with: %s", scheme, strings.Join(slices.Sorted(slices.Values(s.all)), ", "))
}

// Any says that there is a key service.
func (s *Services) Any() bool { return s != nil && len(s.of) > 0 }

// Makes says whether new keys are to be made in a key service.
func (s *Services) Makes() bool { return s != nil && s.home != "" }

// Create makes a key in the home. The error is a fault with [ReasonUnavailable].
func (s *Services) Create(ctx context.Context, name string, algorithm Algorithm) (Key, error) {
	if !s.Makes() {
		return Key{}, errors.New("kms: no key service makes keys")
	}
	return s.of[s.home].create(ctx, name, algorithm)
}

// Signer returns what signs with the key. It is opened when it first signs, and must have the public key then. Its
// errors are faults with [ReasonUnavailable] or [ReasonWrongKey].
func (s *Services) Signer(keyURI string, public crypto.PublicKey) crypto.Signer {
	_, home, err := s.locate(keyURI)
	if err != nil {
		return &signer{public: public, sign: func([]byte, crypto.SignerOpts) ([]byte, error) { return nil, err }}
	}
	return &signer{public: public, sign: func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		return home.sign(keyURI, public, digest, opts)
	}}
}

// Find opens a key that somebody names, and returns its public key. Errors that are no faults are sentences about the
// URI.
func (s *Services) Find(ctx context.Context, keyURI string) (Key, error) {
	u, home, err := s.locate(keyURI)
	if err != nil {
		return Key{}, err
	}
	if err := home.driver.CheckKey(u); err != nil {
		return Key{}, fmt.Errorf("the key's URI: %w", err)
	}
	public, err := home.find(ctx, keyURI)
	return Key{URI: keyURI, Public: public}, err
}

// State is what is known of a key service.
type State struct {
	Scheme string
	// Home says that new keys are made in it.
	Home bool
	// Known says that it was asked something since the start; Up that it answered last, and Since since when.
	Known, Up bool
	Since     time.Time
}

// States returns what is known of the key services, by scheme.
func (s *Services) States() []State {
	if s == nil {
		return nil
	}
	var list []State
	for _, scheme := range slices.Sorted(maps.Keys(s.of)) {
		state := s.of[scheme].health.state()
		state.Scheme, state.Home = scheme, scheme == s.home
		list = append(list, state)
	}
	return list
}

// Close gives back what the services hold. Calls that hang are not waited for.
func (s *Services) Close() {
	if s == nil {
		return
	}
	for _, of := range s.of {
		of.forget(nil)
	}
}

// signer is a crypto.Signer of a key that is elsewhere.
type signer struct {
	public crypto.PublicKey
	sign   func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

// Public returns the public key that we know the key by.
func (s *signer) Public() crypto.PublicKey { return s.public }

// Sign asks the key service.
func (s *signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.sign(digest, opts)
}

// locate finds the service of a key.
func (s *Services) locate(keyURI string) (*uri.URI, *service, error) {
	u, err := parse(keyURI)
	if err != nil {
		return nil, nil, fmt.Errorf("the key's URI: %w", err)
	}
	if s == nil || s.of[u.Scheme] == nil {
		return nil, nil, unavailable(u.Scheme, errors.New("a key is in it, but it is not configured: set AMPORA_PKI_KMS or AMPORA_PKI_KMS_OTHERS"))
	}
	return u, s.of[u.Scheme], nil
}

// Abandon tells the operator of a key that was made and is not used.
func (s *Services) Abandon(keyURI string) {
	s.log.WarnContext(context.Background(), "a key was made in the key service that nothing uses: it may be deleted there", "key", keyURI)
}
