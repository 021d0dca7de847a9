// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package api is the public API as any client sees it: over the network, with a token,
// by the published definitions and nothing else. Programs of the load tests look through
// it at what they did.
package api

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
)

// Client is the services that load tests call, over one pool of connections.
type Client struct {
	Agents      amporav1connect.AgentServiceClient
	Assignments amporav1connect.AssignmentServiceClient
	Configs     amporav1connect.ConfigServiceClient
	Groups      amporav1connect.GroupServiceClient
	Rollouts    amporav1connect.RolloutServiceClient
	System      amporav1connect.SystemServiceClient
	Tokens      amporav1connect.BootstrapTokenServiceClient
}

// Access says where the API is and who calls.
type Access struct {
	// URL is http://HOST:PORT or https://HOST:PORT.
	URL string
	// Token is an API token; empty for a server in development mode.
	Token string
	// Roots verify an https server; nil means the system's.
	Roots *x509.CertPool
}

// Limits of calls.
const (
	// Parallel is how many calls it makes sense to have under way at a time.
	Parallel  = 32
	callTime  = 35 * time.Second // the server ends calls after 30
	maxAnswer = 64 << 20
)

// New makes a client. Nothing is sent yet.
func New(access Access) (*Client, error) {
	server, err := url.Parse(access.URL)
	if err != nil || server.Host == "" || server.Scheme != "http" && server.Scheme != "https" {
		return nil, fmt.Errorf("the API's address has the form https://HOST:PORT, got %q", access.URL)
	}
	pool := &http.Client{Timeout: callTime, Transport: &http.Transport{
		MaxIdleConnsPerHost: Parallel,
		TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: access.Roots},
	}}
	transport := connecthttp.NewTransport(pool, strings.TrimSuffix(server.String(), "/"), connecthttp.WithReadMaxBytes(maxAnswer))
	client := connect.NewClient(transport, bearing(access.Token))
	return &Client{
		Agents:      amporav1connect.NewAgentServiceClient(client),
		Assignments: amporav1connect.NewAssignmentServiceClient(client),
		Configs:     amporav1connect.NewConfigServiceClient(client),
		Groups:      amporav1connect.NewGroupServiceClient(client),
		Rollouts:    amporav1connect.NewRolloutServiceClient(client),
		System:      amporav1connect.NewSystemServiceClient(client),
		Tokens:      amporav1connect.NewBootstrapTokenServiceClient(client),
	}, nil
}

func bearing(token string) connect.ClientInterceptor {
	return func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			if info, ok := connect.CallInfoForClientContext(ctx); ok && token != "" {
				info.RequestHeader().Set("Authorization", "Bearer "+token)
			}
			return next(ctx, spec)
		}
	}
}

// TokenFrom reads an API token from a file, from the one that AMPORA_TOKEN_FILE names if
// none is given, or from AMPORA_TOKEN.
func TokenFrom(file string) (string, error) {
	if file = cmp.Or(file, os.Getenv("AMPORA_TOKEN_FILE")); file == "" {
		return os.Getenv("AMPORA_TOKEN"), nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the caller's own choice
	return strings.TrimSpace(string(text)), err
}

// RootsFrom reads certificates in PEM from a file; no file means the system's.
func RootsFrom(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the caller's own choice
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificates in it", file)
	}
	return pool, nil
}
