// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"connectrpc.com/connect/v2"
	"connectrpc.com/connect/v2/connecthttp"

	"gitlab.com/ampora/ampora/proto/gen/ampora/v1/amporav1connect"
	"gitlab.com/ampora/ampora/shared/identity"
)

const (
	defaultServer = "http://127.0.0.1:8080"
	// maxAnswer bounds one message of the server: the largest is a page of versions or an effective configuration,
	// which the gateways bound at 10 MiB.
	maxAnswer = 32 << 20
	// maxSecretFile bounds a file that holds a token.
	maxSecretFile = 4 << 10
	// maxPEMFile bounds a file of certificates.
	maxPEMFile = 4 << 20
)

// api is the public API, one client per service over one connection pool.
type api struct {
	agents       amporav1connect.AgentServiceClient
	bulk         amporav1connect.BulkServiceClient
	rollouts     amporav1connect.RolloutServiceClient
	assignments  amporav1connect.AssignmentServiceClient
	audit        amporav1connect.AuditServiceClient
	certificates amporav1connect.CertificateServiceClient
	signingKeys  amporav1connect.SigningKeyServiceClient
	configs      amporav1connect.ConfigServiceClient
	configRules  amporav1connect.ConfigRuleServiceClient
	schedules    amporav1connect.ScheduleServiceClient
	budgets      amporav1connect.BudgetServiceClient
	drift        amporav1connect.DriftServiceClient
	events       amporav1connect.EventServiceClient
	gateways     amporav1connect.GatewayServiceClient
	groups       amporav1connect.GroupServiceClient
	joinTokens   amporav1connect.JoinTokenServiceClient
	system       amporav1connect.SystemServiceClient
	tokens       amporav1connect.BootstrapTokenServiceClient
	tokenPools   amporav1connect.TokenPoolServiceClient
	apiTokens    amporav1connect.ApiTokenServiceClient
}

func (p *program) connect() (*api, error) {
	token, err := p.apiToken()
	if err != nil {
		return nil, err
	}
	return p.connectWith(token)
}

// connectToPool is for the one procedure that is for the secret of a token pool.
func (p *program) connectToPool(secretFile string) (*api, error) {
	text, err := p.readSecret(secretFile)
	if err != nil {
		return nil, err
	}
	secret, err := parseToken(identity.PoolToken, text)
	if err != nil {
		return nil, err
	}
	return p.connectWith(secret)
}

func (p *program) connectWith(token identity.Token) (*api, error) {
	server, err := p.serverURL()
	if err != nil {
		return nil, err
	}
	if token.Reveal() != "" && server.Scheme == "http" && !isLoopback(server.Hostname()) && !p.allowPlaintext {
		return nil, fail(ExitUsage, "use an https:// address, or --allow-plaintext where the network is trusted",
			"the token would cross the network in the clear: %s is plain http", escape(server.Redacted()))
	}
	roots, err := p.roots(first(p.caFile, p.environ["AMPORA_CA_FILE"]))
	if err != nil {
		return nil, err
	}
	transport := connecthttp.NewTransport(p.httpClient(roots), strings.TrimSuffix(server.String(), "/"),
		connecthttp.WithReadMaxBytes(maxAnswer))
	client := connect.NewClient(transport, authorize(token))
	return &api{
		agents:       amporav1connect.NewAgentServiceClient(client),
		bulk:         amporav1connect.NewBulkServiceClient(client),
		rollouts:     amporav1connect.NewRolloutServiceClient(client),
		assignments:  amporav1connect.NewAssignmentServiceClient(client),
		audit:        amporav1connect.NewAuditServiceClient(client),
		certificates: amporav1connect.NewCertificateServiceClient(client),
		signingKeys:  amporav1connect.NewSigningKeyServiceClient(client),
		configs:      amporav1connect.NewConfigServiceClient(client),
		configRules:  amporav1connect.NewConfigRuleServiceClient(client),
		schedules:    amporav1connect.NewScheduleServiceClient(client),
		budgets:      amporav1connect.NewBudgetServiceClient(client),
		drift:        amporav1connect.NewDriftServiceClient(client),
		events:       amporav1connect.NewEventServiceClient(client),
		gateways:     amporav1connect.NewGatewayServiceClient(client),
		groups:       amporav1connect.NewGroupServiceClient(client),
		joinTokens:   amporav1connect.NewJoinTokenServiceClient(client),
		system:       amporav1connect.NewSystemServiceClient(client),
		tokens:       amporav1connect.NewBootstrapTokenServiceClient(client),
		tokenPools:   amporav1connect.NewTokenPoolServiceClient(client),
		apiTokens:    amporav1connect.NewApiTokenServiceClient(client),
	}, nil
}

func authorize(token identity.Token) connect.ClientInterceptor {
	return func(next connect.ClientFunc) connect.ClientFunc {
		return func(ctx context.Context, spec connect.Spec) (connect.ClientStream, error) {
			if info, ok := connect.CallInfoForClientContext(ctx); ok && token.Reveal() != "" {
				info.RequestHeader().Set("Authorization", "Bearer "+token.Reveal())
			}
			return next(ctx, spec)
		}
	}
}

func (p *program) serverURL() (*url.URL, error) {
	text := first(p.server, p.environ["AMPORA_SERVER"], defaultServer)
	server, err := url.Parse(text)
	if err != nil || server.Host == "" || server.Scheme != "http" && server.Scheme != "https" {
		return nil, usage("the server's address has the form https://HOST[:PORT], got %q", text)
	}
	if server.User != nil || server.RawQuery != "" || server.Fragment != "" {
		return nil, usage("the server's address has neither user, query nor fragment")
	}
	return server, nil
}

// apiToken reads the token from the first place that is given. No token at all is fine: a server in development may ask
// for none.
func (p *program) apiToken() (identity.Token, error) {
	text := p.environ["AMPORA_TOKEN"]
	file := first(p.tokenFile, p.environ["AMPORA_TOKEN_FILE"])
	if p.tokenFile == "" && text != "" && file != "" {
		return identity.Token{}, usage("AMPORA_TOKEN and AMPORA_TOKEN_FILE are both set: unset one")
	}
	if file != "" {
		read, err := p.readSecret(file)
		if err != nil {
			return identity.Token{}, err
		}
		text = read
	}
	if text == "" && file == "" {
		return identity.Token{}, nil
	}
	return parseToken(identity.APIToken, text)
}

// parseToken finds damage of a token before anything is sent, and never quotes it.
func parseToken(kind identity.TokenKind, text string) (identity.Token, error) {
	token, err := identity.ParseToken(kind, strings.TrimSpace(text))
	switch {
	case errors.Is(err, identity.ErrTokenTruncated):
		return token, fail(ExitUsage, "copy it again, whole: it is one line without spaces",
			"the token is a damaged copy: its check characters do not match")
	case err != nil:
		return token, usage("that is not a token of the form %s.<52 characters>.<7 characters>", kind)
	default:
		return token, nil
	}
}

// readSecret reads a small file, or standard input for "-".
func (p *program) readSecret(file string) (string, error) {
	in := p.streams.In
	if file != "-" {
		opened, err := os.Open(file) //nolint:gosec // the caller's own choice
		if err != nil {
			return "", usage("reading the token: %v", err)
		}
		defer opened.Close()
		in = opened
	}
	text, err := readAtMost(in, maxSecretFile)
	if err != nil {
		return "", usage("reading the token: %v", err)
	}
	return string(text), nil
}

// readAtMost reads everything, and refuses more than limit bytes.
func readAtMost(in io.Reader, limit int) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(in, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(body) > limit {
		return nil, fmt.Errorf("larger than %s", bytesOf(int64(limit)))
	}
	return body, nil
}

// roots reads the authorities of a PEM file; nil for "", which means the system's.
func (p *program) roots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := readCertificates(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, usage("%s holds no certificate in PEM form", file)
	}
	return pool, nil
}

func readCertificates(file string) ([]byte, error) {
	opened, err := os.Open(file) //nolint:gosec // the caller's own choice
	if err != nil {
		return nil, usage("reading the certificate authorities: %v", err)
	}
	defer opened.Close()
	pem, err := readAtMost(opened, maxPEMFile)
	if err != nil {
		return nil, usage("reading the certificate authorities: %s: %v", file, err)
	}
	return pem, nil
}

// httpClient makes a client that follows no redirect, so that a token reaches the server named and no other.
func (p *program) httpClient(roots *x509.CertPool, certificates ...tls.Certificate) *http.Client {
	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         p.dial,
		TLSClientConfig:     &tls.Config{RootCAs: roots, Certificates: certificates, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     time.Minute,
		ForceAttemptHTTP2:   true,
	}
	p.transports = append(p.transports, transport)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (p *program) hangUp() {
	for _, transport := range p.transports {
		transport.CloseIdleConnections()
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// first returns the first text that is not empty.
func first(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}
