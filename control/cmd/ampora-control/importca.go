// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/control/internal/pki/kms/drivers"
	"gitlab.com/ampora/ampora/shared/ops"
)

func importCACommand(environ []string) *cobra.Command {
	var files caFiles
	cmd := &cobra.Command{
		Use: "import-ca --tenant TENANT (--cert FILE (--key FILE | --key-uri URI) | --pfx FILE)", Args: cobra.NoArgs, DisableFlagsInUseLine: true,
		Short: "Take over an existing certificate authority for the agents of a tenant.",
		Long: "Take over an existing certificate authority for the agents of a tenant: a root, which gets an intermediate of ours below\n" +
			"it, or an intermediate with the certificate of the root above it, whose key stays where it is.\n\n" +
			"If the tenant has no authority, the imported one signs from now on. If it has one, the imported keys are drafts, which\n" +
			"are trusted and do not sign. All is checked first, by signing a certificate that goes nowhere.",
		RunE: func(c *cobra.Command, _ []string) error { return importCA(c, environ, files) },
	}
	cmd.Flags().StringVar(&files.tenant, "tenant", "", "`TENANT` whose agents it certifies (required)")
	cmd.Flags().StringVar(&files.cert, "cert", "", "PEM `FILE` with the authority's certificate, and that of its root after it unless it is one")
	cmd.Flags().StringVar(&files.key, "key", "", "PEM `FILE` with the authority's private key")
	cmd.Flags().StringVar(&files.uri, "key-uri", "", "`URI` of the key in a key service of AMPORA_PKI_KMS or AMPORA_PKI_KMS_OTHERS")
	cmd.Flags().StringVar(&files.pfx, "pfx", "", "PKCS #12 `FILE` with key and certificates")
	cmd.Flags().StringVar(&files.password, "password-file", "", "`FILE` with the password of --key or --pfx")
	_ = cmd.MarkFlagRequired("tenant") // fails for an unknown flag only
	cmd.MarkFlagsMutuallyExclusive("pfx", "cert")
	cmd.MarkFlagsMutuallyExclusive("pfx", "key", "key-uri")
	cmd.MarkFlagsOneRequired("pfx", "cert")
	cmd.MarkFlagsOneRequired("pfx", "key", "key-uri")
	return cmd
}

// caFiles are the flags of import-ca.
type caFiles struct{ tenant, cert, key, uri, pfx, password string }

func importCA(c *cobra.Command, environ []string, files caFiles) error {
	config, err := load(environ)
	if err != nil {
		return err
	}
	i := control.CAImport{
		Database: config.Control.Database, Keys: config.Control.Keys, PKI: config.Control.PKI, KeyServices: drivers.All(),
		Tenant: files.tenant, Home: config.Control.Tenant, KeyURI: files.uri, Now: time.Now(),
		Log: ops.NewLogger(c.ErrOrStderr(), config.Ops.LogLevel, config.Ops.LogFormat),
	}
	if err := i.Check(); err != nil {
		return fmt.Errorf("%w%w", errConfig, err)
	}
	for _, file := range []struct {
		flag, name string
		into       *[]byte
	}{{"--cert", files.cert, &i.PEM}, {"--key", files.key, &i.Key}, {"--pfx", files.pfx, &i.PFX}, {"--password-file", files.password, &i.Password}} {
		if file.name == "" {
			continue
		}
		if *file.into, err = os.ReadFile(file.name); err != nil {
			return fmt.Errorf("%s: %w", file.flag, err)
		}
	}
	i.Password = bytes.TrimRight(i.Password, "\r\n")
	imported, err := control.ImportCA(c.Context(), i)
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	table := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tKIND\tSTATE")
	for _, key := range imported.Keys {
		fmt.Fprintf(table, "%s\t%s\t%s\n", key.ID, key.Kind, key.State)
	}
	if !imported.OCSP {
		fmt.Fprintln(c.ErrOrStderr(), "Its extended key usages do not have OCSPSigning: there is no OCSP for its certificates, which name their revocation list alone.")
	}
	return table.Flush() //nolint:wrapcheck // of standard output
}
