// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/drivers"
	"gitlab.com/ampora/ampora/shared/ops"
)

// joinTokenCommand is for gateways that serve several tenants. Those of one tenant its Admin lets join.
func joinTokenCommand(environ []string) *cobra.Command {
	var gateway, caOut string
	var tenants []string
	var all bool
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "join-token --gateway NAME (--tenant TENANT... | --all-tenants)", Args: cobra.NoArgs, DisableFlagsInUseLine: true,
		Short: "Print a token with which a gateway joins, once, to serve the tenants named or all.",
		Long: "Print a token with which a gateway joins, once, to serve the tenants named, or all, those to come among them.\n" +
			"A name that is known joins anew: the gateway's former certificates are refused from then on, and the token's\n" +
			"tenants are those it serves.\n\n" +
			"For a gateway of one tenant its Admin needs no database: amporactl join-tokens issue.",
		RunE: func(c *cobra.Command, _ []string) error {
			if all == (len(tenants) > 0) {
				return fmt.Errorf("%wname the tenants with --tenant, or say --all-tenants", errConfig)
			}
			return joinToken(c, environ, control.JoinToken{Gateway: gateway, Tenants: tenants, TTL: ttl}, caOut)
		},
	}
	cmd.Flags().StringVar(&gateway, "gateway", "", "`NAME` the gateway gets: 1 to 63 of a-z, 0-9 and '-'")
	cmd.Flags().StringArrayVar(&tenants, "tenant", nil, "`TENANT` it may serve; may be given several times")
	cmd.Flags().BoolVar(&all, "all-tenants", false, "it may serve every tenant")
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "usable for `DURATION`, 15m to 168h (default 24h)")
	cmd.Flags().StringVar(&caOut, "ca-out", "", "write what the gateway verifies the control plane with to `FILE`, which is new or holds it already")
	_ = cmd.MarkFlagRequired("gateway") // fails for an unknown flag only
	return cmd
}

func joinToken(c *cobra.Command, environ []string, j control.JoinToken, caOut string) error {
	config, err := load(environ)
	if err != nil {
		return err
	}
	j.Database, j.Keys, j.PKI, j.Now = config.Control.Database, config.Control.Keys, config.Control.PKI, time.Now()
	j.KeyServices = drivers.All()
	j.Log = ops.NewLogger(c.ErrOrStderr(), config.Ops.LogLevel, config.Ops.LogFormat)
	if err := j.Check(); err != nil {
		return fmt.Errorf("%w%w", errConfig, err)
	}
	secret, ca, err := control.IssueJoinToken(c.Context(), j)
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	fmt.Fprintln(c.ErrOrStderr(), "This token is shown once. With it the gateway "+j.Gateway+" joins.")
	fmt.Fprintln(c.OutOrStdout(), secret.Reveal())
	return keepAuthority(caOut, ca)
}

// keepAuthority writes certificates to a file that is new or holds them already.
func keepAuthority(name string, pem []byte) error {
	if name == "" {
		return nil
	}
	held, err := os.ReadFile(name) //nolint:gosec // the operator names the file
	switch {
	case errors.Is(err, os.ErrNotExist):
		err = os.WriteFile(name, pem, 0o644) //nolint:gosec // public certificates, and the operator names the file
	case err == nil && !bytes.Equal(held, pem):
		err = errors.New(name + " holds something else; name a new file")
	}
	if err != nil {
		return fmt.Errorf("--ca-out: %w", err)
	}
	return nil
}

func revokeGatewayCommand(environ []string) *cobra.Command {
	return &cobra.Command{
		Use: "revoke-gateway NAME", Args: cobra.ExactArgs(1), DisableFlagsInUseLine: true,
		Short: "Refuse a gateway from now on, whichever tenants it serves.",
		Long: "Refuse a gateway from now on, whatever certificate it shows and whichever tenants it serves. Its sessions end, and\n" +
			"its agents connect to another. It can join again with a new token.",
		RunE: func(c *cobra.Command, args []string) error {
			config, err := load(environ)
			if err != nil {
				return err
			}
			log := ops.NewLogger(c.ErrOrStderr(), config.Ops.LogLevel, config.Ops.LogFormat)
			err = control.RevokeGateway(c.Context(), control.Revocation{Database: config.Control.Database, Gateway: args[0], Now: time.Now(), Log: log})
			if err == nil {
				fmt.Fprintln(c.OutOrStdout(), "revoked", args[0])
			}
			return err //nolint:wrapcheck // a sentence for the operator already
		},
	}
}
