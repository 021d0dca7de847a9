// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command testagent runs simulated OpAMP agents until it is told to stop: they enrol
// with a certificate request of their own, report what agents report, and apply every
// configuration at once. It is for demonstrations and for trying things out.
package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/loadtest/agent"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "testagent:", err)
		os.Exit(1)
	}
}

type options struct {
	endpoint, tokenFile, tokenEnv, caFile, name, failOn string
	count                                               int
	takes                                               time.Duration
}

func parse(args []string, out io.Writer) (o options, err error) {
	flags := flag.NewFlagSet("testagent", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.StringVar(&o.endpoint, "endpoint", "wss://127.0.0.1:4320/v1/opamp", "where to connect: wss:// or https://")
	flags.StringVar(&o.tokenFile, "token-file", "", "file with bootstrap tokens, one a line and one for each agent")
	flags.StringVar(&o.tokenEnv, "token-env", "", "environment variable with the tokens, separated by white space")
	flags.StringVar(&o.caFile, "ca-file", "", "PEM file with the authorities that verify the server; default: the system's")
	flags.StringVar(&o.name, "name", "simulated", "name of the agents; several are numbered")
	flags.StringVar(&o.failOn, "fail-on", "", "fail every configuration that contains this text")
	flags.IntVar(&o.count, "n", 1, "how many agents")
	flags.DurationVar(&o.takes, "takes", time.Second, "how long an agent takes to apply a configuration")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 || o.count < 1 || (o.tokenFile == "") == (o.tokenEnv == "") {
		return o, errors.New("give -token-file or -token-env, -n of at least 1, and no further arguments")
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args, out)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	tokens, err := o.tokens()
	if err != nil {
		return err
	}
	if len(tokens) != o.count {
		return fmt.Errorf("%d agents need as many tokens, each is good for one; there are %d", o.count, len(tokens))
	}
	roots, err := o.roots()
	if err != nil {
		return err
	}
	return start(ctx, o, tokens, roots, slog.New(slog.NewTextHandler(out, nil)))
}

// start runs all agents until ctx ends or one cannot go on.
func start(ctx context.Context, o options, tokens []string, roots *x509.CertPool, log *slog.Logger) error {
	var running sync.WaitGroup
	errs := make([]error, len(tokens))
	for i, token := range tokens {
		name := o.name
		if o.count > 1 {
			name = fmt.Sprintf("%s-%d", o.name, i+1)
		}
		one, err := agent.New(agent.Config{
			Endpoint: o.endpoint, Roots: roots, Token: token, Name: name, Respond: o.respond, Log: log,
			Attributes: map[string]string{"simulated": "true"},
		})
		if err != nil {
			return err
		}
		running.Go(func() { errs[i] = one.Run(ctx) })
	}
	running.Wait()
	return errors.Join(errs...)
}

func (o options) respond(offer agent.Offer) agent.Verdict {
	verdict := agent.Verdict{After: o.takes}
	if o.failOn != "" && strings.Contains(string(offer.Body), o.failOn) {
		verdict.Failure = fmt.Sprintf("cannot build pipelines: %q is not known here", o.failOn)
	}
	return verdict
}

func (o options) tokens() ([]string, error) {
	if o.tokenEnv != "" {
		return strings.Fields(os.Getenv(o.tokenEnv)), nil
	}
	file, err := os.Open(o.tokenFile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var tokens []string
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			tokens = append(tokens, line)
		}
	}
	return tokens, nil
}

func (o options) roots() (*x509.CertPool, error) {
	if o.caFile == "" {
		return nil, nil
	}
	text, err := os.ReadFile(o.caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s: no certificates in it", o.caFile)
	}
	return pool, nil
}
