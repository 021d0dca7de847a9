// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/shared/ops"
)

func afterRestoreCommand(environ []string) *cobra.Command {
	var lists []string
	var without bool
	cmd := &cobra.Command{
		Use: "after-restore (--crl FILE... | --without-crl)", Args: cobra.NoArgs, DisableFlagsInUseLine: true,
		Short: "Make a database that was put back from a backup safe to go on with.",
		Long: "Make a database that was put back from a backup safe to go on with, before any process of the control plane is\n" +
			"started on it. Sessions end and are numbered above any that there may have been since; bootstrap and join tokens that\n" +
			"were not used when the backup was made are revoked, because they may have been used since; and what the newest\n" +
			"published revocation lists name is revoked again. Get these from whoever has them: a cache, a mirror, a client.\n\n" +
			"Certificates that were issued since the backup are not on record, so their agents are refused and must be enrolled\n" +
			"anew. API tokens and gateways that were revoked since are good again: revoke them. It may be run again.",
		RunE: func(c *cobra.Command, _ []string) error {
			if without == (len(lists) > 0) {
				return fmt.Errorf("%wname the newest revocation lists with --crl, one for each signing key, or say --without-crl: "+
					"then what was revoked since the backup is good again", errConfig)
			}
			return afterRestore(c, environ, lists)
		},
	}
	cmd.Flags().StringArrayVar(&lists, "crl", nil, "`FILE` with a revocation list, in DER or PEM; may be given several times")
	cmd.Flags().BoolVar(&without, "without-crl", false, "there is no list: nothing was revoked since the backup")
	return cmd
}

func afterRestore(c *cobra.Command, environ, lists []string) error {
	config, err := load(environ)
	if err != nil {
		return err
	}
	r := control.Restore{
		Database: config.Control.Database, Keys: config.Control.Keys, Now: time.Now(),
		Log: ops.NewLogger(c.ErrOrStderr(), config.Ops.LogLevel, config.Ops.LogFormat),
	}
	for _, name := range lists {
		list, err := os.ReadFile(name) //nolint:gosec // the operator names the file
		if err != nil {
			return fmt.Errorf("--crl: %w", err)
		}
		r.Lists = append(r.Lists, list)
	}
	done, err := control.AfterRestore(c.Context(), r)
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	out := c.OutOrStdout()
	fmt.Fprintf(out, "ended %d sessions, revoked %d bootstrap tokens and %d join tokens\n", done.Sessions, done.BootstrapTokens, done.JoinTokens)
	for _, l := range done.Lists {
		fmt.Fprintf(out, "list %d of key %s of tenant %s: revoked %d certificates, %d are not on record\n", l.Number, l.Key, l.Tenant, l.Revoked, l.Unknown)
	}
	fmt.Fprintln(out, "API tokens and gateways that were revoked since the backup are good again: look at them.")
	return nil
}
