// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/control"
	"gitlab.com/ampora/ampora/control/internal/masterkey"
	"gitlab.com/ampora/ampora/shared/ops"
)

// keysCommands are about the master key and those of certificate authorities.
func keysCommands(environ []string) *cobra.Command {
	group := &cobra.Command{Use: "keys", Short: "Replace the master key, say which one the database is under, or take over a certificate authority."}
	group.AddCommand(
		&cobra.Command{
			Use: "status", Short: "Count what is wrapped, by master key (exit code 3 if not all of it is under AMPORA_MASTER_KEY).", Args: cobra.NoArgs,
			Long: "Counts the records that are wrapped under a master key, and opens each whose key is configured. It says whether\n" +
				"AMPORA_PREVIOUS_MASTER_KEY may be removed. Records name their key, so no key has to be configured for counting.",
			RunE: func(c *cobra.Command, _ []string) error { return keysStatus(c, environ) },
		},
		&cobra.Command{
			Use: "rotate-master", Short: "Wrap everything that is wrapped under AMPORA_MASTER_KEY, from AMPORA_PREVIOUS_MASTER_KEY.", Args: cobra.NoArgs,
			Long: "Wraps every record of the database anew that is under AMPORA_PREVIOUS_MASTER_KEY, so that it is under\n" +
				"AMPORA_MASTER_KEY. The control plane goes on meanwhile, if each of its processes has both keys. It may be\n" +
				"interrupted at any point and run again, and twice at once. A record that does not open is named and left, the\n" +
				"others are done, and the exit code is 1.",
			RunE: func(c *cobra.Command, _ []string) error { return rotateMaster(c, environ) },
		},
		importCACommand(environ),
	)
	return group
}

func masterKeys(c *cobra.Command, environ []string) (control.MasterKeys, error) {
	config, err := load(environ)
	if err != nil {
		return control.MasterKeys{}, err
	}
	log := ops.NewLogger(c.ErrOrStderr(), config.Ops.LogLevel, config.Ops.LogFormat)
	return control.MasterKeys{Database: config.Control.Database, Keys: config.Control.Keys, Now: time.Now, Log: log}, nil
}

// errKeys marks a database that is not, or not all of it, under AMPORA_MASTER_KEY.
var errKeys = errors.New("not all records are under AMPORA_MASTER_KEY")

func keysStatus(c *cobra.Command, environ []string) error {
	keys, err := masterKeys(c, environ)
	if err != nil {
		return err
	}
	status, err := keys.Status(c.Context())
	if err != nil {
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	if err := printKinds(c.OutOrStdout(), status); err != nil {
		return err
	}
	damaged := status.Damaged()
	sayDamaged(c.ErrOrStderr(), damaged)
	fmt.Fprintln(c.OutOrStdout(), verdictOf(status))
	switch {
	case len(damaged) > 0:
		return fmt.Errorf("%d records do not open", len(damaged))
	case status.Under(status.Active) < status.Total():
		return errKeys
	default:
		return nil
	}
}

func printKinds(out io.Writer, status control.MasterKeyStatus) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KIND\tMASTER KEY\tRECORDS")
	for _, kind := range status.Kinds {
		for _, id := range slices.Sorted(maps.Keys(kind.Under)) {
			fmt.Fprintf(table, "%s\t%s\t%d\n", kind.Column.Purpose, id+role(status, id), kind.Under[id])
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// role says which of the configured keys an id is.
func role(status control.MasterKeyStatus, id string) string {
	switch id {
	case status.Active:
		return " (AMPORA_MASTER_KEY)"
	case status.Previous:
		return " (AMPORA_PREVIOUS_MASTER_KEY)"
	default:
		return ""
	}
}

// verdictOf says what the counts mean to whoever wants to remove a key.
func verdictOf(status control.MasterKeyStatus) string {
	total, active, previous := status.Total(), status.Under(status.Active), 0
	replacing := status.Previous != "" && status.Previous != status.Active
	if replacing {
		previous = status.Under(status.Previous)
	}
	switch {
	case total == 0:
		return "Nothing was ever sealed in this database."
	case len(status.Damaged()) > 0:
		return "Keep every key: some records do not open."
	case status.Active == "":
		return "AMPORA_MASTER_KEY is not configured: which of these it is, and whether the records open, was not looked at."
	case active == total && replacing:
		return fmt.Sprintf("All %d records open under AMPORA_MASTER_KEY: AMPORA_PREVIOUS_MASTER_KEY may be removed from every process.", total)
	case active == total:
		return fmt.Sprintf("All %d records open under AMPORA_MASTER_KEY: no other key is needed.", total)
	case active+previous == total:
		return fmt.Sprintf("%d of %d records are under AMPORA_PREVIOUS_MASTER_KEY: keep it, and run ampora-control keys rotate-master.", previous, total)
	default:
		return fmt.Sprintf("%d of %d records are under keys that are not configured: nothing that needs them will work.", total-active-previous, total)
	}
}

// saidDamaged is how many damaged records are named.
const saidDamaged = 50

func sayDamaged(errs io.Writer, damaged []masterkey.Failed) {
	for _, d := range damaged[:min(len(damaged), saidDamaged)] {
		fmt.Fprintf(errs, "does not open: %s: %v\n", d.Record, d.Why)
	}
	if more := len(damaged) - saidDamaged; more > 0 {
		fmt.Fprintf(errs, "and %d more\n", more)
	}
}

func rotateMaster(c *cobra.Command, environ []string) error {
	keys, err := masterKeys(c, environ)
	if err != nil {
		return err
	}
	told := &progress{out: c.ErrOrStderr(), now: time.Now}
	active, done, err := keys.Rotate(c.Context(), told.looked)
	sayDamaged(c.ErrOrStderr(), done.Failed)
	switch {
	case err != nil && done.Rewrapped > 0:
		return fmt.Errorf("%w (%d records were wrapped anew before that: run it again)", err, done.Rewrapped)
	case err != nil:
		return err //nolint:wrapcheck // a sentence for the operator already
	}
	if n := len(done.Failed); n > 0 {
		return fmt.Errorf("%d records were wrapped anew, %d were not: keep both keys, the database still counts as under the former one", done.Rewrapped, n)
	}
	fmt.Fprintf(c.OutOrStdout(), "%d records were wrapped anew; all are under AMPORA_MASTER_KEY (%s)\n", done.Rewrapped, active)
	fmt.Fprintln(c.OutOrStdout(), "AMPORA_PREVIOUS_MASTER_KEY may be removed from every process, once ampora-control keys status says so too.")
	return nil
}

// progressPause is how often it is told how far a rotation is.
const progressPause = time.Second

// progress says how far a rotation is: each kind at its end, and while it lasts.
type progress struct {
	out  io.Writer
	now  func() time.Time
	last time.Time
}

func (p *progress) looked(kind string, looked, total int) {
	if now := p.now(); looked == total || now.Sub(p.last) >= progressPause {
		fmt.Fprintf(p.out, "%s %d/%d\n", kind, looked, total)
		p.last = now
	}
}
