// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package validator

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
)

// Bounds on a call.
const (
	// glance is how long a validator may take to say what builds it has.
	glance = 2 * time.Second
	// longestAnswer in bytes: half a MiB of what a build prints, each byte of it escaped.
	longestAnswer = 4 << 20
)

// Client asks a validator. A nil client has none to ask.
type Client struct {
	http *http.Client
	base string
	log  *slog.Logger
}

// New returns a client of the validator at an address: unix:PATH or http://LOOPBACK:PORT. Other addresses are refused,
// because configurations cross in clear. An empty address is no validator, and no client.
func New(address string, log *slog.Logger) (*Client, error) {
	if address == "" {
		return nil, nil //nolint:nilnil // as is said above
	}
	transport := &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute}
	c := &Client{http: &http.Client{Transport: transport, CheckRedirect: stay}, log: log}
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		if !strings.HasPrefix(path, "/") {
			return nil, errors.New("unix: is followed by an absolute path")
		}
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		c.base = "http://validator"
		return c, nil
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" || u.Port() == "" || strings.Trim(u.Path, "/") != "" || !loopback(u.Hostname()) {
		return nil, errors.New("must be unix:/PATH, or http://ADDRESS:PORT with a loopback address")
	}
	c.base = "http://" + u.Host
	return c, nil
}

// stay follows nobody to another address.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// builds returns the builds that the validator has.
func (c *Client) builds(ctx context.Context) ([]Build, error) {
	ctx, cancel := context.WithTimeout(ctx, glance)
	defer cancel()
	var has Builds
	err := c.call(ctx, http.MethodGet, PathBuilds, nil, &has)
	return has.Builds, err
}

// validate asks one question.
func (c *Client) validate(ctx context.Context, q Question) (Answer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return Answer{}, fmt.Errorf("encode a question: %w", err)
	}
	var a Answer
	err = c.call(ctx, http.MethodPost, PathValidate, bytes.NewReader(body), &a)
	return a, err
}

func (c *Client) call(ctx context.Context, method, path string, body io.Reader, into any) error {
	request, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return fmt.Errorf("ask the validator: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the validator: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(response.Body, longestAnswer))
	if err != nil {
		return fmt.Errorf("hear the validator: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the validator answers %s: %.200q", response.Status, answer)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("the validator's answer is none: %w", err)
	}
	return nil
}
