// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/control/internal/cli/enrol"
	"gitlab.com/ampora/ampora/shared/identity"
)

// opampPath is where gateways speak OpAMP.
const opampPath = "/v1/opamp"

// enrolFlags have names of their own meaning: the server is a gateway here, and the token a bootstrap token.
type enrolFlags struct {
	server, tokenFile, caFile, dir string
	force                          bool
}

func (p *program) enrolCommand() *cobra.Command {
	var flags enrolFlags
	cmd := p.local(verb{
		use: "enroll --server URL --out-dir DIR [flags]", short: "Get this machine's agent its certificate", args: cobra.NoArgs,
		long: `Get an agent its certificate with a bootstrap token, over EST, for agents that take their TLS files from disk:
the stock supervisor and the collector's opamp extension.

The key is made here and never leaves the machine. It writes key.pem (mode 0600), cert.pem (with its chain) and, with
--ca-file, ca.pem, and prints what to put into the agent's configuration. If it is interrupted, or the answer is lost,
run it again: the same key gets the same certificate for 15 minutes.

The token comes from --token-file, or from AMPORA_BOOTSTRAP_TOKEN or AMPORA_BOOTSTRAP_TOKEN_FILE.`,
		example: "amporactl enroll --server https://gateway:4320 --ca-file server-ca.pem --token-file token --out-dir /etc/otelcol/identity",
	}, func(ctx context.Context, _ []string) error {
		return p.enrol(ctx, flags)
	})
	gatewayFlag(cmd, &flags.server)
	cmd.Flags().StringVar(&flags.tokenFile, "token-file", "", "`FILE` with the bootstrap token, - for standard input")
	cmd.Flags().StringVar(&flags.caFile, "ca-file", "", "PEM `FILE` with the only authorities to trust for the gateway; copied to ca.pem")
	cmd.Flags().StringVar(&flags.dir, "out-dir", "", "`DIR` for the files; made with mode 0700 if it is missing")
	cmd.Flags().BoolVar(&flags.force, "force", false, "replace an identity that is still valid")
	_ = cmd.MarkFlagRequired("out-dir") // fails for an unknown flag only
	return cmd
}

// gatewayFlag declares where a gateway is; --server means something else where the API is called.
func gatewayFlag(cmd *cobra.Command, server *string) {
	cmd.Flags().StringVar(server, "server", "", "`URL` of a gateway, https://HOST[:PORT]")
	_ = cmd.MarkFlagRequired("server") // fails for an unknown flag only
}

func (p *program) enrol(ctx context.Context, flags enrolFlags) error {
	gateway, err := gatewayURL(flags.server)
	if err != nil {
		return err
	}
	request, err := p.enrolRequest(gateway, flags.caFile)
	if err != nil {
		return err
	}
	request.Dir, request.Force = flags.dir, flags.force
	request.Token = func() (identity.Token, error) { return p.bootstrapToken(flags.tokenFile) }
	result, err := enrol.Run(ctx, request)
	if err != nil {
		return enrolFailure(err)
	}
	return p.tellIdentity(gateway, result)
}

// enrolRequest is what enrolling and renewing have in common.
func (p *program) enrolRequest(gateway *url.URL, serverCA string) (request enrol.Request, err error) {
	roots, err := p.roots(serverCA)
	if err != nil {
		return request, err
	}
	request = enrol.Request{
		Gateway: gateway, Now: p.now(),
		Client: func(certificates ...tls.Certificate) *http.Client { return p.httpClient(roots, certificates...) },
	}
	if serverCA != "" {
		request.ServerCA, err = readCertificates(serverCA)
	}
	return request, err
}

// gatewayURL takes what people have at hand: the gateway's https address, or the wss one that agents are given.
func gatewayURL(text string) (*url.URL, error) {
	gateway, err := url.Parse(text)
	if err != nil || gateway.Host == "" || gateway.Scheme != "https" && gateway.Scheme != "wss" ||
		gateway.Path != "" && gateway.Path != "/" && gateway.Path != opampPath {
		return nil, usage("the gateway's address has the form https://HOST[:PORT], got %q", text)
	}
	return &url.URL{Scheme: "https", Host: gateway.Host}, nil
}

func (p *program) bootstrapToken(file string) (identity.Token, error) {
	text := p.environ["AMPORA_BOOTSTRAP_TOKEN"]
	if file == "" && text != "" && p.environ["AMPORA_BOOTSTRAP_TOKEN_FILE"] != "" {
		return identity.Token{}, usage("AMPORA_BOOTSTRAP_TOKEN and AMPORA_BOOTSTRAP_TOKEN_FILE are both set: unset one")
	}
	if file = first(file, p.environ["AMPORA_BOOTSTRAP_TOKEN_FILE"]); file != "" {
		read, err := p.readSecret(file)
		if err != nil {
			return identity.Token{}, err
		}
		text = read
	}
	if text == "" {
		return identity.Token{}, fail(ExitUsage, "issue one with: amporactl tokens issue --out token, then --token-file token",
			"there is no bootstrap token")
	}
	return parseToken(identity.BootstrapToken, text)
}

// enrolFailure says what went wrong and what to do. The gateway gives no hint about a token on purpose.
func enrolFailure(err error) error {
	const again = "run the same command again: the key is kept, and gets the same certificate for 15 minutes"
	var refusal *enrol.Refusal
	var unreachable *url.Error
	var file *fs.PathError
	switch {
	case errors.As(err, &refusal):
		return refused(refusal, "the token is not accepted (unknown, used, expired or revoked)", "issue a new one with: amporactl tokens issue")
	case errors.As(err, &unreachable):
		return fail(ExitUnavailable, again, "the gateway did not answer: %v", unreachable.Err)
	case errors.Is(err, enrol.ErrIdentityExists):
		return fail(ExitConflict, "use it, or replace it with --force", "%v", err)
	case errors.As(err, &file):
		return fail(ExitError, "give --out-dir a directory that this user may write", "%v", err)
	default:
		return err
	}
}

// refused says why the gateway gives no certificate; what it does not accept, and what to do about that, is the caller's
// to say.
func refused(refusal *enrol.Refusal, denied, remedy string) error {
	words := ""
	if refusal.Words != "" {
		words = ": " + refusal.Words
	}
	switch refusal.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return fail(ExitDenied, remedy, "%s", denied)
	case http.StatusBadRequest:
		return fail(ExitError, "", "the gateway does not take the certificate request%s", words)
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return fail(ExitUsage, "--server is the address that agents connect to; amporactl system get shows it",
			"that is no gateway, or one that does not enrol")
	case http.StatusAccepted, http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return fail(ExitUnavailable, "run the same command again "+retryTime(refusal.RetryAfter), "the gateway cannot enrol now%s", words)
	default:
		return fail(ExitError, nextReport, "%v%s", refusal, words)
	}
}

func retryTime(header string) string {
	if seconds, err := time.ParseDuration(header + "s"); err == nil && seconds > 0 {
		return "in " + seconds.String()
	}
	return "in a minute"
}

// tellIdentity prints what the agent's configuration needs on standard output, and the rest on standard error.
func (p *program) tellIdentity(gateway *url.URL, result enrol.Result) error {
	how := "enrolled as"
	if result.Finished {
		how = "finished the earlier enrolment (no token was spent) as"
	}
	_, _ = fmt.Fprintf(p.streams.Err, "%s %s; the certificate is valid until %s\n",
		how, result.Agent.ID, result.Certificate.NotAfter.UTC().Format(time.RFC3339))
	_, _ = fmt.Fprintln(p.streams.Err, "put this into supervisor.yaml; in the opamp extension, endpoint and tls stand below server: ws:")
	ca := ""
	if result.CAFile != "" {
		ca = fmt.Sprintf("    ca_file: %q\n", result.CAFile)
	}
	_, err := fmt.Fprintf(p.streams.Out, "server:\n  endpoint: %q\n  tls:\n%s    cert_file: %q\n    key_file: %q\n",
		"wss://"+gateway.Host+opampPath, ca, result.CertFile, result.KeyFile)
	return err
}
