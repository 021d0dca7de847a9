// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/loadtest/api"
	"gitlab.com/ampora/ampora/loadtest/swarm"
)

// options are all flags of all commands; each command has some of them.
type options struct {
	flags         *flag.FlagSet
	out, progress io.Writer

	// Where.
	servers, caFile, identities string
	locals                      int
	api, tokenFile, apiCAFile   string
	// Enrolment.
	count, parallel int
	way, group      string
	// The run.
	transport, name           string
	heartbeat, duration, ramp time.Duration
	dials                     int
	applyMin, applyMax        time.Duration
	failFraction              float64
	failText                  string
	failAfter                 int64
	flips, relabels           float64
	faults                    []swarm.Fault
	verify, stay, noFaults    bool
	settle                    time.Duration
	stateFile, reportFile     string
}

func (c command) parse(args []string, out, progress io.Writer) (*options, error) {
	o := &options{flags: flag.NewFlagSet(c.name, flag.ContinueOnError), out: out, progress: progress}
	o.flags.SetOutput(io.Discard)
	c.options(o)
	err := o.flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		c.help(out, o.flags)
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%w: %w", err, errUsage)
	case o.flags.NArg() > 0:
		return nil, fmt.Errorf("%q is one argument too many: %w", o.flags.Arg(0), errUsage)
	}
	return o, nil
}

func (o *options) apiFlags() {
	o.flags.StringVar(&o.api, "api", "", "`URL` of the public API; default: AMPORA_SERVER, or http://127.0.0.1:8080")
	o.flags.StringVar(&o.tokenFile, "token-file", "", "`file` with an API token; default: AMPORA_TOKEN_FILE, or AMPORA_TOKEN, or none")
	o.flags.StringVar(&o.apiCAFile, "api-ca-file", "", "PEM `file` with the authorities that verify the API; default: the system's")
}

func (o *options) targetFlags() {
	o.flags.StringVar(&o.servers, "server", "127.0.0.1:4320", "`addresses` where agents connect, HOST:PORT, separated by commas; each connection takes the next")
	o.flags.StringVar(&o.caFile, "ca-file", "", "PEM `file` with the authorities that verify the server; default: the system's")
	o.flags.IntVar(&o.locals, "local-addresses", 0, "connect from so many addresses 127.0.1.x, when one has too few ports")
	o.flags.StringVar(&o.identities, "identities", "swarm", "`folder` with the agents' keys and certificates; grows")
	o.flags.IntVar(&o.count, "count", 100, "how many `agents`")
	o.flags.StringVar(&o.way, "enrol", "est", "how agents that are missing enrol: `est, csr or offer`; with offer they also take certificates from the server")
	o.flags.StringVar(&o.group, "group", "", "`name` of the group they join; made if it is not there")
	o.flags.IntVar(&o.parallel, "parallel", 32, "how many enrol at a time")
}

func (o *options) enrolFlags() {
	o.apiFlags()
	o.targetFlags()
}

func (o *options) verifyingFlags() {
	o.flags.DurationVar(&o.settle, "settle", time.Minute, "how long differences may take to go away")
	o.flags.BoolVar(&o.noFaults, "allow-no-faults", false, "let a run pass in which nothing went wrong")
	o.flags.StringVar(&o.reportFile, "report", "", "`file` to write what happened to, in JSON")
}

func (o *options) verifyFlags() {
	o.apiFlags()
	o.verifyingFlags()
	o.flags.StringVar(&o.stateFile, "state", "", "`file` with what the agents knew, from swarm run --state")
}

func (o *options) runFlags() {
	o.apiFlags()
	o.targetFlags()
	o.verifyingFlags()
	o.flags.StringVar(&o.transport, "transport", "ws", "how agents speak: `ws, http or mixed` (every fourth polls)")
	o.flags.StringVar(&o.name, "name", "swarm", "what their host names begin with")
	o.flags.DurationVar(&o.heartbeat, "heartbeat", 30*time.Second, "rest between messages, and between polls, of an agent with nothing to say")
	o.flags.DurationVar(&o.duration, "duration", time.Minute, "how long they are disturbed, after all have connected; 0: until SIGINT or SIGTERM")
	o.flags.DurationVar(&o.ramp, "ramp", 0, "time over which they come; 0: all at once")
	o.flags.IntVar(&o.dials, "dials", 128, "how many connect at a time")
	o.applyMin, o.applyMax = time.Second, 3*time.Second
	o.flags.Func("apply-delay", "`MIN,MAX` time to apply a configuration (default 1s,3s)", o.applyDelay)
	o.flags.Float64Var(&o.failFraction, "fail-fraction", 0, "share of attempts at a configuration that fail, 0 to 1")
	o.flags.StringVar(&o.failText, "fail-text", "", "`text`: attempts at configurations without it do not fail")
	o.flags.Int64Var(&o.failAfter, "fail-after", 0, "so many `agents` that are offered a configuration first do not fail")
	o.flags.Float64Var(&o.flips, "flips", 0, "changes of health per second")
	o.flags.Float64Var(&o.relabels, "relabels", 0, "changes of labels per second")
	o.flags.Func("fault", "`KIND=OFTEN`, several times: what goes wrong, N/s, N/m or N@TIME", o.fault)
	o.flags.BoolVar(&o.verify, "verify", false, "compare at the end what each agent knows with what the API shows")
	o.flags.BoolVar(&o.stay, "stay", false, "stay connected at the end, until SIGINT or SIGTERM")
	o.flags.StringVar(&o.stateFile, "state", "", "`file` to write to what the agents know at the end, for swarm verify")
}

func (o *options) fault(text string) error {
	f, err := swarm.ParseFault(text)
	o.faults = append(o.faults, f)
	return err
}

func (o *options) applyDelay(text string) (err error) {
	least, most, two := strings.Cut(text, ",")
	if !two {
		most = least
	}
	if o.applyMin, err = time.ParseDuration(least); err != nil {
		return err
	}
	o.applyMax, err = time.ParseDuration(most)
	return err
}

func (o *options) client() (*api.Client, error) {
	token, err := api.TokenFrom(o.tokenFile)
	if err != nil {
		return nil, err
	}
	roots, err := api.RootsFrom(o.apiCAFile)
	if err != nil {
		return nil, err
	}
	return api.New(api.Access{URL: cmp.Or(o.api, os.Getenv("AMPORA_SERVER"), "http://127.0.0.1:8080"), Token: token, Roots: roots})
}

func (o *options) target() (swarm.Target, error) {
	roots, err := api.RootsFrom(o.caFile)
	target := swarm.Target{Addresses: strings.Split(o.servers, ","), Roots: roots, Locals: o.locals}
	if err != nil {
		return target, err
	}
	return target, target.Check()
}

const overview = `swarm runs simulated OpAMP agents by the thousand, lets things go wrong, and compares
what every agent knows of itself with what the server says of it.

Usage: swarm COMMAND [--flag value]...

`

func help(out io.Writer) {
	fmt.Fprint(out, overview)
	for _, c := range commands {
		fmt.Fprintf(out, "  swarm %-8s%s\n", c.name, c.words)
	}
	fmt.Fprint(out, "\nExit codes: 0 all held, 1 something did not, 2 wrong arguments.\n")
	for _, c := range commands {
		o := &options{flags: flag.NewFlagSet(c.name, flag.ContinueOnError)}
		c.options(o)
		fmt.Fprintln(out)
		c.help(out, o.flags)
	}
}

// help prints the flags with the two hyphens that documents write.
func (c command) help(out io.Writer, flags *flag.FlagSet) {
	fmt.Fprintf(out, "swarm %s: %s\n", c.name, c.words)
	flags.VisitAll(func(f *flag.Flag) {
		value, words := flag.UnquoteUsage(f)
		fmt.Fprintf(out, "  --%s %s\n      %s", f.Name, value, words)
		if f.DefValue != "" && f.DefValue != "0" && f.DefValue != "false" {
			fmt.Fprintf(out, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(out)
		if f.Name == "fault" {
			faultKinds(out)
		}
	})
}

func faultKinds(out io.Writer) {
	kinds := swarm.FaultKinds()
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(out, "      %-10s %s\n", kind, kinds[kind])
	}
}
