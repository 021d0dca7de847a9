// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/control/internal/seal"
	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/ops"
)

// Config is the configuration of ampora.
type Config struct {
	Mode    control.Mode `env:"AMPORA_MODE" envDefault:"development" help:"development makes up what is missing and needs no login on this machine; production does neither and refuses SQLite."`
	DataDir string       `env:"AMPORA_DATA_DIR" envDefault:"./.ampora" help:"Folder for what development makes up: the SQLite database, the master key, the certificate that verifies the OpAMP listener."`
	BusURL  string       `env:"AMPORA_BUS_URL" envDefault:"inproc" help:"The bus between gateway and control plane. In one process: inproc."`
	Migrate bool         `env:"AMPORA_AUTO_MIGRATE" envDefault:"true" help:"Whether to bring the database to this program's schema at the start. If false, run ampora-control migrate up."`

	Control control.Config
	Gateway gateway.Config
	Ops     ops.Config
}

// Validate refuses contradictions, over all parts.
func (c *Config) Validate() error {
	var bus error
	if c.BusURL != "inproc" {
		bus = errors.New("AMPORA_BUS_URL: ampora is one process and its bus is inproc; redis and postgres are not built yet")
	}
	return errors.Join(bus, c.Control.PKI.CheckKeyServices(nil), c.Control.Validate(), c.Gateway.Validate(), c.Ops.Validate())
}

// sharedPort reports whether API and OpAMP are served on one TLS port.
func (c *Config) sharedPort() bool { return c.Control.API.Addr == c.Gateway.Addr }

// prepare makes up, in development, what an operator would have given. The data directory is private to its owner.
func (c *Config) prepare() error {
	if c.Mode == control.Production {
		return nil
	}
	if err := os.MkdirAll(c.DataDir, 0o700); err != nil {
		return fmt.Errorf("AMPORA_DATA_DIR: %w", err)
	}
	if c.Control.Database.URL.IsZero() {
		c.Control.Database.URL = conf.NewSecret("sqlite:" + filepath.Join(c.DataDir, "ampora.db"))
	}
	if c.Control.PKI.TrustDomain == "" {
		c.Control.PKI.TrustDomain = "ampora.local"
	}
	if c.Control.Keys.Master.IsZero() {
		key, err := ownMasterKey(filepath.Join(c.DataDir, "master.key"))
		if err != nil {
			return err
		}
		c.Control.Keys.Master = key
	}
	return nil
}

// ownMasterKey reads the master key of a development installation, or makes it.
func ownMasterKey(path string) (conf.Secret, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the folder
	if errors.Is(err, os.ErrNotExist) {
		if err = makeMasterKey(path); err == nil {
			text, err = os.ReadFile(path) //nolint:gosec // likewise
		}
	}
	if err != nil {
		return conf.Secret{}, fmt.Errorf("the master key in AMPORA_DATA_DIR: %w", err)
	}
	return conf.NewSecret(strings.TrimSpace(string(text))), nil
}

// makeMasterKey keeps a new master key at path, readable by its owner alone. It is whole and on disk before it gets its
// name, so that no crash leaves half a key behind; and the first to name it wins: what another process that starts at
// the same moment has sealed under its key stays readable.
func makeMasterKey(path string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".master.key-*")
	if err != nil {
		return err //nolint:wrapcheck // wrapped above
	}
	defer func() { _ = os.Remove(file.Name()) }()
	_, err = file.WriteString(seal.NewMasterKey().Base64() + "\n")
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Link(file.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err //nolint:wrapcheck // wrapped above
	}
	return nil
}

// names are the host names and addresses under which agents may reach the development listener.
func (c *Config) names() (dns []string, ips []net.IP) {
	dns = []string{"localhost"}
	ips = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	if host, err := os.Hostname(); err == nil && host != "localhost" {
		dns = append(dns, host)
	}
	if host, _, err := net.SplitHostPort(c.Gateway.Addr); err == nil {
		if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() && !ip.IsLoopback() {
			ips = append(ips, ip)
		}
	}
	return dns, ips
}
