// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// Streams are the three standard streams of one run.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// Run runs the command line args (without the program's name) in an environment of NAME=value pairs, and returns the
// exit code. It ends when ctx does: with [ExitInterrupted], except for commands that follow something until they are
// told to stop, which end well.
func Run(ctx context.Context, args []string, streams Streams, environ []string) int {
	return newProgram(streams, environ).run(ctx, args)
}

// program is one run: what the global flags and the environment say, and where the output goes.
type program struct {
	streams Streams
	environ map[string]string
	now     func() time.Time
	// dial reaches every server.
	dial func(ctx context.Context, network, address string) (net.Conn, error)

	format         format
	server         string
	tokenFile      string
	caFile         string
	allowPlaintext bool
	timeout        time.Duration

	transports []*http.Transport // whose idle connections end with the run
	started    bool              // the command line was understood; errors from here on are the command's own
}

func newProgram(streams Streams, environ []string) *program {
	p := &program{
		streams: streams,
		environ: make(map[string]string, len(environ)),
		now:     time.Now,
		dial:    (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		format:  formatTable,
	}
	for _, pair := range environ {
		if name, value, ok := strings.Cut(pair, "="); ok {
			p.environ[name] = value
		}
	}
	return p
}

func (p *program) run(ctx context.Context, args []string) int {
	root := p.root()
	root.SetArgs(append([]string{}, args...)) // never nil, which would mean the arguments of the process
	root.SetIn(p.streams.In)
	root.SetOut(p.streams.Out)
	root.SetErr(p.streams.Err)
	defer p.hangUp()
	err := root.ExecuteContext(ctx)
	if err == nil {
		return int(ExitOK)
	}
	failed := p.read(err, ctx.Err() != nil)
	failed.print(p.streams.Err)
	return int(failed.code)
}

func (p *program) read(err error, interrupted bool) *failure {
	if own := (*failure)(nil); !p.started && !errors.As(err, &own) {
		return fail(ExitUsage, "amporactl --help, and --help behind every command, tell what there is", "%v", err)
	}
	return failureOf(err, interrupted)
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "amporactl",
		Short: "Manage fleets of OpenTelemetry Collectors with Ampora",
		Long: `amporactl talks to the public API of an Ampora control plane.

The API token comes from the file named by --token-file or AMPORA_TOKEN_FILE, or from
AMPORA_TOKEN; never from the command line, which other users of the machine can read.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	p.globalFlags(root)
	root.AddCommand(
		p.agentCommands(), p.groupCommands(), p.configCommands(), p.configRuleCommands(), p.rolloutCommands(), p.scheduleCommands(), p.budgetCommands(), p.tokenCommands(), p.tokenPoolCommands(), p.apiTokenCommands(), p.certificateCommands(),
		p.signingKeyCommands(),
		p.gatewayCommands(), p.joinTokenCommands(),
		p.eventCommands(), p.auditCommands(), p.systemCommands(), p.enrolCommand(), p.renewCommand(), p.versionCommand(),
		p.docsCommand(), exitCodesTopic(),
	)
	return root
}

func (p *program) globalFlags(root *cobra.Command) {
	flags := root.PersistentFlags()
	flags.VarP(&p.format, "output", "o", "`FORMAT` of the result: table, json or yaml")
	flags.StringVar(&p.server, "server", "", "`URL` of the public API (AMPORA_SERVER, else http://127.0.0.1:8080)")
	flags.StringVar(&p.tokenFile, "token-file", "",
		"`FILE` with the API token, - for standard input (AMPORA_TOKEN_FILE, or the token itself in AMPORA_TOKEN)")
	flags.StringVar(&p.caFile, "ca-file", "", "PEM `FILE` with the only certificate authorities to trust for the server (AMPORA_CA_FILE, else the system's)")
	flags.BoolVar(&p.allowPlaintext, "allow-plaintext", false, "send the token over plain http to another machine")
	flags.DurationVar(&p.timeout, "timeout", 30*time.Second,
		"how long the command may take, 0 for ever; without it, commands that follow something have no limit")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(
		[]string{"table", "json", "yaml"}, cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag only
}

func exitCodesTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long:  "Exit codes of amporactl:\n\n" + strings.TrimRight(exitCodesText(), "\n"),
	}
}
