// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package transit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"go.step.sm/crypto/kms/uri"
)

const (
	// maxAnswer bounds an answer; a key with hundreds of versions fits.
	maxAnswer = 1 << 20
	// maxWords bounds what of an error of Vault gets into our own.
	maxWords = 300
)

// client speaks to one Vault.
type client struct {
	address   string
	namespace string
	http      *http.Client
	login     login
}

func newClient(service *uri.URI) (*client, error) {
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, TLSHandshakeTimeout: callTime, ResponseHeaderTimeout: callTime,
		DialContext:         (&net.Dialer{Timeout: callTime}).DialContext,
		MaxIdleConnsPerHost: 8, IdleConnTimeout: time.Minute, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if file := service.Get("ca-file"); file != "" {
		text, err := os.ReadFile(file) //nolint:gosec // the operator names the file
		if err != nil {
			return nil, fmt.Errorf("ca-file: %w", err)
		}
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(text) {
			return nil, errors.New("ca-file: it has no certificate in PEM")
		}
	}
	login, err := loginOf(service)
	if err != nil {
		return nil, err
	}
	return &client{
		address: strings.TrimRight(service.Get("address"), "/"), namespace: strings.Trim(service.Get("namespace"), "/"), login: login,
		http: &http.Client{
			Transport: transport, Timeout: callTime,
			// A standby that does not forward would have us take the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}, nil
}

// Refusal is an answer of Vault other than success.
type Refusal struct {
	Status int
	Words  string
}

// Error has what Vault says.
func (r *Refusal) Error() string {
	if r.Status >= 300 && r.Status < 400 {
		return fmt.Sprintf("vault points elsewhere (status %d), which is not followed: give the address of the active server, or let standbys forward", r.Status)
	}
	return fmt.Sprintf("vault answers %d %s: %s", r.Status, http.StatusText(r.Status), r.Words)
}

// transient: Vault is sealed, a standby without a leader, behind, or over its limit; or it cannot be reached.
func transient(err error) bool {
	var refusal *Refusal
	if errors.As(err, &refusal) {
		return refusal.Status >= http.StatusInternalServerError || refusal.Status == http.StatusTooManyRequests || refusal.Status == http.StatusPreconditionFailed
	}
	if stale(err) { // a certificate that does not verify will not in a moment either
		return false
	}
	var broken net.Error
	return errors.As(err, &broken) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// stale: the authorities of ca-file were read when the client was made. Of a login nothing is left to go stale.
func stale(err error) bool {
	var certificate *tls.CertificateVerificationError
	return errors.As(err, &certificate)
}

// call asks for a path with a token, once more with a new one if the first is not accepted: it may have ended.
func (c *client) call(ctx context.Context, method, path string, asked, answer any) error {
	token, err := c.login.token(ctx, c, false)
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	err = c.ask(ctx, method, path, token, asked, answer)
	var refusal *Refusal
	if !errors.As(err, &refusal) || refusal.Status != http.StatusForbidden {
		return err
	}
	again, failed := c.login.token(ctx, c, true)
	if failed != nil {
		return fmt.Errorf("log in again: %w", failed)
	}
	if again == token {
		return err
	}
	return c.ask(ctx, method, path, again, asked, answer)
}

// ask sends one request. answer may be nil.
func (c *client) ask(ctx context.Context, method, path, token string, asked, answer any) error {
	var body io.Reader
	if asked != nil {
		text, err := json.Marshal(asked)
		if err != nil {
			return fmt.Errorf("encode: %w", err)
		}
		body = bytes.NewReader(text)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.address+"/v1/"+path, body)
	if err != nil {
		return err //nolint:wrapcheck // by the caller
	}
	request.Header.Set("X-Vault-Request", "true")
	if c.namespace != "" {
		request.Header.Set("X-Vault-Namespace", c.namespace)
	}
	if token != "" {
		request.Header.Set("X-Vault-Token", token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return err //nolint:wrapcheck // by the caller
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	if len(text) > maxAnswer {
		return errors.New("the answer is too long")
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return &Refusal{Status: response.StatusCode, Words: words(text)}
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return errors.New("the answer is not Vault's: no JSON")
	}
	return nil
}

// words are what Vault says of an error, cut to a length.
func words(text []byte) string {
	var answer struct {
		Errors []string `json:"errors"`
	}
	if json.Unmarshal(text, &answer) != nil || len(answer.Errors) == 0 {
		return "without a reason"
	}
	said := strings.Join(strings.Fields(strings.Join(answer.Errors, "; ")), " ")
	return said[:min(len(said), maxWords)]
}
