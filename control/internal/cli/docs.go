// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

// docsCommand writes the reference of the command line. It is for the build, hence hidden.
func (p *program) docsCommand() *cobra.Command {
	var docs *cobra.Command
	markdown := p.local(verb{use: "markdown", short: "Write the reference as Markdown", args: cobra.NoArgs},
		func(context.Context, []string) error {
			_, err := io.WriteString(p.streams.Out, reference(docs.Root()))
			return err
		})
	docs = noun("docs", "The reference of this program", markdown)
	docs.Hidden = true
	return docs
}

// reference is the whole command tree as one Markdown page, the same for every environment.
func reference(root *cobra.Command) string {
	var page strings.Builder
	_, _ = fmt.Fprintf(&page, "# %s\n\n<!-- Generated from the command tree by \"%s docs markdown\". Do not edit. -->\n\n%s\n\n",
		root.Name(), root.Name(), root.Long)
	_, _ = fmt.Fprintf(&page, "## Global flags\n\n```text\n%s```\n\n", root.PersistentFlags().FlagUsages())
	_, _ = page.WriteString("## Exit codes\n\n| code | meaning |\n|---|---|\n")
	for _, exit := range ExitCodes() {
		_, _ = fmt.Fprintf(&page, "| %d | %s |\n", exit.Code, exit.Meaning)
	}
	for _, cmd := range root.Commands() {
		if cmd.IsAvailableCommand() && cmd.Name() != "help" {
			referTo(&page, cmd, 2)
		}
	}
	return page.String()
}

func referTo(page *strings.Builder, cmd *cobra.Command, level int) {
	_, _ = fmt.Fprintf(page, "\n%s %s\n\n%s\n", strings.Repeat("#", level), cmd.CommandPath(), about(cmd))
	if !cmd.HasSubCommands() {
		_, _ = fmt.Fprintf(page, "\n```text\n%s\n```\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		_, _ = fmt.Fprintf(page, "\nExample:\n\n```sh\n%s\n```\n", cmd.Example)
	}
	if flags := cmd.LocalNonPersistentFlags(); flags.HasAvailableFlags() {
		_, _ = fmt.Fprintf(page, "\n```text\n%s```\n", flags.FlagUsages())
	}
	for _, below := range cmd.Commands() {
		if below.IsAvailableCommand() {
			referTo(page, below, level+1)
		}
	}
}

// about is the long text of a command where it has one of ours: those of the completion command are about shells, which
// know better.
func about(cmd *cobra.Command) string {
	if cmd.Long == "" || strings.Contains(cmd.CommandPath(), " completion") {
		return cmd.Short + "."
	}
	return cmd.Long
}
