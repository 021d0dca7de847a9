// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"
)

// On says whether there is a receiver.
func (c Config) On() bool { return c.Endpoint != "" }

// Validate says what is wrong or contradictory, all of it joined.
func (c Config) Validate() error {
	if !c.On() {
		if !c.Headers.IsZero() || c.CAFile != "" {
			return errors.New("AMPORA_OTLP_HEADERS and AMPORA_OTLP_CA_FILE mean nothing without AMPORA_OTLP_ENDPOINT")
		}
		return nil
	}
	_, wrong := c.base()
	_, alsoWrong := c.headers()
	return errors.Join(wrong, alsoWrong)
}

// base is the receiver's address.
func (c Config) base() (*url.URL, error) {
	base, err := url.Parse(c.Endpoint)
	switch {
	case err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" || base.RawQuery != "" || base.Fragment != "":
		return nil, errors.New("AMPORA_OTLP_ENDPOINT must be an http:// or https:// address")
	case base.User != nil:
		return nil, errors.New("AMPORA_OTLP_ENDPOINT must hold no password: put it into AMPORA_OTLP_HEADERS, as an authorization")
	case base.Scheme == "http" && !c.Headers.IsZero() && !loopback(base.Hostname()):
		return nil, errors.New("AMPORA_OTLP_ENDPOINT must be https:// where there are AMPORA_OTLP_HEADERS: they must not cross a network in clear")
	case base.Scheme == "http" && c.CAFile != "":
		return nil, errors.New("AMPORA_OTLP_CA_FILE means nothing for a receiver at http://")
	}
	return base, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

var errHeaders = errors.New("AMPORA_OTLP_HEADERS must be NAME=VALUE, separated by commas (what it is is not shown)")

// headers reads NAME=VALUE,NAME=VALUE. No error repeats any of it.
func (c Config) headers() (http.Header, error) {
	headers := http.Header{}
	if c.Headers.IsZero() {
		return headers, nil
	}
	for pair := range strings.SplitSeq(c.Headers.Reveal(), ",") {
		name, value, found := strings.Cut(pair, "=")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !found || name == "" || strings.ContainsFunc(name, notOfName) || strings.ContainsFunc(value, notOfValue) {
			return nil, errHeaders
		}
		headers.Add(name, value)
	}
	return headers, nil
}

// notOfName is of a character that no name of a header has (RFC 9110, section 5.6.2).
func notOfName(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

// notOfValue is of a control character.
func notOfValue(r rune) bool { return r < ' ' || r == 0x7f }

// transport reaches the receiver; nothing it waits for takes for ever.
func (c Config) transport() (*http.Transport, error) {
	transport := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		TLSHandshakeTimeout:   5 * time.Second,
		ResponseHeaderTimeout: sendTime,
		IdleConnTimeout:       90 * time.Second,
		MaxConnsPerHost:       4,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if c.CAFile == "" {
		return transport, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("AMPORA_OTLP_CA_FILE: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("AMPORA_OTLP_CA_FILE holds no certificate in PEM")
	}
	transport.TLSClientConfig.RootCAs = roots
	return transport, nil
}
