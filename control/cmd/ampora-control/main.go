// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command ampora-control is the control plane apart from its gateways, of which there may be several, as there may be of
// it. It is also the tool beside the database: it migrates the schema, makes the first Admin, issues the join tokens of
// gateways and lets gateways into the bus.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/migrations"
	"gitlab.com/ampora/ampora/shared/backplane"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/ops"
)

// Config is the configuration of ampora-control.
type Config struct {
	Mode     control.Mode `env:"AMPORA_MODE" envDefault:"production" help:"production requires what an operator must decide and refuses SQLite; development does neither."`
	OpAMPURL string       `env:"AMPORA_OPAMP_PUBLIC_URL" help:"Where agents reach the gateways: wss://host:port/v1/opamp. Printed in the configurations that commands make for agents."`

	Control control.Config
	Bus     backplane.Config
	Ops     ops.Config
}

// Validate refuses contradictions, before anything is made or opened.
func (c *Config) Validate() error {
	return errors.Join(c.Control.Validate(), c.Bus.Validate(), c.Ops.Validate())
}

//go:generate sh -c "{ echo '# Configuration of ampora-control'; echo; echo 'Generated from `ampora-control --help` by `make generate`; do not edit.'; echo; echo '```text'; go run . --help; echo '```'; } > ../../../docs/reference/config-ampora-control.md"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// After the first signal the default action is back: a second one ends the program at once.
	context.AfterFunc(ctx, stop)
	os.Exit(start(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// errConfig marks a configuration that is wrong.
var errConfig = errors.New("")

// start is the program: its exit code is 0 after success, 2 for a wrong configuration or usage, 3 if migrate status
// finds a schema that is not this program's, 1 for anything else.
func start(ctx context.Context, args, environ []string, out, errs io.Writer) int {
	root := commands(environ)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSchema):
		return 3
	case errors.Is(err, errConfig):
		fmt.Fprintln(errs, "ampora-control:", err)
		return 2
	default:
		fmt.Fprintln(errs, "ampora-control:", err)
		return 1
	}
}

func commands(environ []string) *cobra.Command {
	root := &cobra.Command{
		Use: "ampora-control", Short: "Serve the control plane, and prepare what it needs.", Version: ops.Version().String(),
		Long: "Without a command, ampora-control serves the API, the gateways and whoever checks certificates.\n" +
			"Its commands work on the database that AMPORA_DATABASE_URL names.\n\n" + conf.Usage[Config](),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return serve(c, environ) },
	}
	migrate := &cobra.Command{Use: "migrate", Short: "Bring the schema up to date, or say where it is."}
	migrate.AddCommand(
		&cobra.Command{
			Use: "up", Short: "Apply the migrations that are missing. Safe to run twice, and at once.", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return migrateUp(c, environ) },
		},
		&cobra.Command{
			Use: "status", Short: "List the migrations and say whether this program may use the database (exit code 3 if not).", Args: cobra.NoArgs,
			RunE: func(c *cobra.Command, _ []string) error { return migrateStatus(c, environ) },
		},
	)
	bootstrap := &cobra.Command{Use: "bootstrap-admin", Short: "Print an API token of the first Admin, valid for 7 days.", Args: cobra.NoArgs}
	name := bootstrap.Flags().String("name", "bootstrap-admin", "name of the token")
	bootstrap.RunE = func(c *cobra.Command, _ []string) error { return bootstrapAdmin(c, environ, *name) }
	root.AddCommand(migrate, bootstrap, joinTokenCommand(environ), revokeGatewayCommand(environ), busCommands(environ), keyCommands(environ))
	return root
}

// read reads the configuration, and load wants a database in it.
func read(environ []string) (Config, error) {
	config, _, err := conf.Load[Config](environ)
	if err != nil {
		return Config{}, fmt.Errorf("%w%w", errConfig, err)
	}
	return config, nil
}

func load(environ []string) (Config, error) {
	config, err := read(environ)
	if err != nil {
		return Config{}, err
	}
	if config.Control.Database.URL.IsZero() {
		return Config{}, fmt.Errorf("%wAMPORA_DATABASE_URL is required", errConfig)
	}
	return config, nil
}

func migrateUp(c *cobra.Command, environ []string) error {
	config, err := load(environ)
	if err != nil {
		return err
	}
	log := ops.NewLogger(c.ErrOrStderr(), config.Ops.LogLevel, config.Ops.LogFormat)
	done, err := control.Migrate(c.Context(), config.Control.Database, log)
	for _, m := range done {
		fmt.Fprintln(c.OutOrStdout(), "applied", m.Name)
	}
	if err == nil && len(done) == 0 {
		fmt.Fprintln(c.OutOrStdout(), "the schema is up to date")
	}
	return err //nolint:wrapcheck // a sentence for the operator already
}

// errSchema marks a schema that this program may not use.
var errSchema = errors.New("not this program's schema")

func migrateStatus(c *cobra.Command, environ []string) error {
	config, err := load(environ)
	if err != nil {
		return err
	}
	list, checked := migrations.Status(c.Context(), config.Control.Database.URL.Reveal())
	table := tabwriter.NewWriter(c.OutOrStdout(), 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "MIGRATION\tAPPLIED")
	for _, m := range list {
		applied := "no"
		if !m.AppliedAt.IsZero() {
			applied = m.AppliedAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(table, "%s\t%s\n", m.Name, applied)
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if checked != nil {
		fmt.Fprintln(c.ErrOrStderr(), "ampora-control:", checked)
		return errSchema
	}
	return nil
}

func bootstrapAdmin(c *cobra.Command, environ []string, name string) error {
	config, err := load(environ)
	if err != nil {
		return err
	}
	log := ops.NewLogger(c.ErrOrStderr(), config.Ops.LogLevel, config.Ops.LogFormat)
	token, err := control.BootstrapAdmin(c.Context(), control.Bootstrap{
		Database: config.Control.Database, Keys: config.Control.Keys, Tenant: config.Control.Tenant, Name: name, Now: time.Now(), Log: log,
	})
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	fmt.Fprintln(c.ErrOrStderr(), "This token is shown once. It is an Admin of tenant "+config.Control.Tenant+" for 7 days; make others with amporactl api-tokens create.")
	fmt.Fprintln(c.OutOrStdout(), token.Reveal())
	return nil
}
