// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"gitlab.com/ampora/ampora/control/internal/cli/enrol"
)

// renewBefore leaves time for whoever must look why renewing fails.
const renewBefore = 30 * 24 * time.Hour

type renewFlags struct {
	server, caFile, dir string
	before              time.Duration
	force               bool
}

func (p *program) renewCommand() *cobra.Command {
	var flags renewFlags
	cmd := p.local(verb{
		use: "renew --server URL --dir DIR [flags]", short: "Renew the certificate of this machine's agent", args: cobra.NoArgs,
		long: `Replace the identity that "amporactl enroll" wrote by one of a new key, once its certificate is about to expire. It is
asked for with the certificate that is there, over EST. Run it from a timer: before it is due it does nothing.

The gateway is verified with ca.pem of the folder, if there is one. The certificate that is replaced stays good until it
expires: an agent goes on with it until it reads its files again. If it is interrupted, or the answer is lost, run it
again: the same key gets the same certificate. One that has expired cannot be renewed: enroll with a new token.`,
		example: "amporactl renew --server https://gateway:4320 --dir /etc/otelcol/identity",
	}, func(ctx context.Context, _ []string) error {
		return p.renew(ctx, flags)
	})
	gatewayFlag(cmd, &flags.server)
	cmd.Flags().StringVar(&flags.caFile, "ca-file", "", "PEM `FILE` with the only authorities to trust for the gateway; copied to ca.pem (default ca.pem in the folder, if there is one)")
	cmd.Flags().StringVar(&flags.dir, "dir", "", "`DIR` with the files of an identity")
	cmd.Flags().DurationVar(&flags.before, "before", renewBefore, "how long before its end a certificate is due")
	cmd.Flags().BoolVar(&flags.force, "force", false, "renew it even if it is not due")
	_ = cmd.MarkFlagRequired("dir") // fails for an unknown flag only
	return cmd
}

func (p *program) renew(ctx context.Context, flags renewFlags) error {
	gateway, err := gatewayURL(flags.server)
	if err != nil {
		return err
	}
	if flags.before < 0 {
		return usage("--before is no time before the end: %s", flags.before)
	}
	if here := filepath.Join(flags.dir, "ca.pem"); flags.caFile == "" && exists(here) {
		flags.caFile = here
	}
	request, err := p.enrolRequest(gateway, flags.caFile)
	if err != nil {
		return err
	}
	request.Dir, request.Before, request.Force = flags.dir, flags.before, flags.force
	result, err := enrol.Renew(ctx, request)
	if err != nil {
		return renewFailure(err)
	}
	until := result.Certificate.NotAfter.UTC().Format(time.RFC3339)
	if result.NotDue {
		_, _ = fmt.Fprintf(p.streams.Err, "the certificate of %s is valid until %s: not due\n", result.Agent.ID, until)
		return nil
	}
	_, _ = fmt.Fprintf(p.streams.Err, "renewed the certificate of %s; it is valid until %s\n", result.Agent.ID, until)
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func renewFailure(err error) error {
	var refusal *enrol.Refusal
	switch {
	case errors.Is(err, enrol.ErrNoIdentity):
		return fail(ExitConflict, "enroll with a new token: amporactl enroll", "%v", err)
	case errors.As(err, &refusal):
		return refused(refusal, "the certificate is not accepted (revoked, quarantined or not recorded)",
			"look at the agent with: amporactl agents get")
	default:
		return enrolFailure(err)
	}
}
