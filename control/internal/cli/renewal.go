// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
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
	share               float64
	force, watch        bool
	// after is a command that is run when the identity was renewed, with its arguments.
	after []string
}

func (p *program) renewCommand() *cobra.Command {
	var flags renewFlags
	cmd := p.local(verb{
		use: "renew --server URL --dir DIR [flags] [-- COMMAND [ARG]...]", short: "Renew the certificate of this machine's agent",
		args:    func(cmd *cobra.Command, args []string) error { return onlyBehindDashes(cmd, args) },
		follows: func() bool { return flags.watch },
		long: `Replace the identity that "amporactl enroll" wrote by one of a new key, once its certificate is about to expire. It is
asked for with the certificate that is there, over EST. Run it from a timer: before it is due it does nothing. Or let it
watch: it stays, renews the identity each time it is due, and goes on trying while no gateway answers.

COMMAND is run when the identity was renewed, to let the agent read it; not by a shell. If it fails, it is run again: by
the next run, or by the watch within minutes.

The gateway is verified with ca.pem of the folder, if there is one. The certificate that is replaced stays good until it
expires: an agent goes on with it until it reads its files again. If it is interrupted, or the answer is lost, run it
again: the same key gets the same certificate. One that has expired cannot be renewed: enroll with a new token.`,
		example: "amporactl renew --server https://gateway:4320 --dir /etc/otelcol/identity\n" +
			"amporactl renew --watch --server https://gateway:4320 --dir /etc/otelcol/identity -- systemctl try-restart opampsupervisor",
	}, func(ctx context.Context, args []string) error {
		flags.after = args
		return p.renew(ctx, flags)
	})
	gatewayFlag(cmd, &flags.server)
	cmd.Flags().StringVar(&flags.caFile, "ca-file", "", "PEM `FILE` with the only authorities to trust for the gateway; copied to ca.pem (default ca.pem in the folder, if there is one)")
	cmd.Flags().StringVar(&flags.dir, "dir", "", "`DIR` with the files of an identity")
	cmd.Flags().DurationVar(&flags.before, "before", renewBefore, "how long before its end a certificate is due, at most half of its life")
	cmd.Flags().BoolVar(&flags.force, "force", false, "renew it even if it is not due")
	cmd.Flags().BoolVar(&flags.watch, "watch", false, "stay, and renew it each time it is due")
	_ = cmd.MarkFlagRequired("dir") // fails for an unknown flag only
	cmd.MarkFlagsMutuallyExclusive("watch", "force")
	return cmd
}

// onlyBehindDashes wants what is no flag to stand behind --, where a command is expected.
func onlyBehindDashes(cmd *cobra.Command, args []string) error {
	if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
		return usage("a command stands behind --, got %q", args[0])
	}
	return nil
}

func (p *program) renew(ctx context.Context, flags renewFlags) error {
	gateway, err := gatewayURL(flags.server)
	if err != nil {
		return err
	}
	if flags.before < 0 {
		return usage("--before is no time before the end: %s", flags.before)
	}
	if flags.watch {
		return p.watchRenewal(ctx, gateway, flags)
	}
	result, err := p.renewOnce(ctx, gateway, flags)
	if err != nil {
		return err
	}
	if result.NotDue {
		_, _ = fmt.Fprintf(p.streams.Err, "the certificate of %s is valid until %s: not due\n", result.Agent.ID, result.Certificate.NotAfter.UTC().Format(time.RFC3339))
	}
	return p.runAfter(ctx, flags)
}

// renewOnce renews the identity if it is due, and says so.
func (p *program) renewOnce(ctx context.Context, gateway *url.URL, flags renewFlags) (enrol.Result, error) {
	if here := filepath.Join(flags.dir, "ca.pem"); flags.caFile == "" && exists(here) {
		flags.caFile = here
	}
	request, err := p.enrolRequest(gateway, flags.caFile)
	if err != nil {
		return enrol.Result{}, err
	}
	request.Dir, request.Before, request.Share, request.Force = flags.dir, flags.before, flags.share, flags.force
	result, err := enrol.Renew(ctx, request)
	if err != nil {
		return result, renewFailure(err)
	}
	if result.NotDue {
		return result, nil
	}
	_, _ = fmt.Fprintf(p.streams.Err, "renewed the certificate of %s; it is valid until %s\n", result.Agent.ID, result.Certificate.NotAfter.UTC().Format(time.RFC3339))
	return result, flags.owe()
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
	case errors.Is(err, enrol.ErrBusy):
		return fail(ExitUnavailable, "", "%v", err)
	case errors.As(err, &refusal):
		return refused(refusal, "the certificate is not accepted (revoked, quarantined or not recorded)",
			"look at the agent with: amporactl agents get")
	default:
		return enrolFailure(err)
	}
}
