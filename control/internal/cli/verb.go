// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
)

// verb is one command that does something.
type verb struct {
	use     string
	short   string
	long    string
	example string
	args    cobra.PositionalArgs
	// follows says whether, with the flags given, the command goes on until it is stopped. Such a command has no time
	// limit unless one is asked for.
	follows func() bool
}

// remote makes the command of a verb that asks the API.
func (p *program) remote(v verb, do func(ctx context.Context, api *api, args []string) error) *cobra.Command {
	return p.local(v, func(ctx context.Context, args []string) error {
		api, err := p.connect()
		if err != nil {
			return err
		}
		return do(ctx, api, args)
	})
}

// local makes the command of a verb that does not.
func (p *program) local(v verb, do func(ctx context.Context, args []string) error) *cobra.Command {
	return &cobra.Command{
		Use: v.use, Short: v.short, Long: v.long, Example: v.example, Args: v.args,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			p.started = true
			unlimited := p.timeout == 0 || v.follows != nil && v.follows() && !cmd.Flags().Changed("timeout")
			if unlimited {
				return do(cmd.Context(), args)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), p.timeout)
			defer cancel()
			return do(ctx, args)
		},
	}
}

// noun makes the command that holds the verbs of one noun.
func noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use:                   use + " VERB",
		Short:                 short,
		DisableFlagsInUseLine: true,
		// Without RunE a wrong verb would print the help and succeed.
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return fmt.Errorf("%s needs a verb; %s --help lists them", cmd.CommandPath(), cmd.CommandPath())
			}
			return fmt.Errorf("%s has no verb %q; %s --help lists them", cmd.CommandPath(), args[0], cmd.CommandPath())
		},
	}
	cmd.AddCommand(verbs...)
	return cmd
}
