// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Command ampora-validator has builds of the Collector that an administrator provides look at configurations, for the
// control plane. It runs programs and holds no secret: it refuses to start with one in its environment.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/control/internal/sandbox"
	"gitlab.com/ampora/ampora/control/internal/validator/builds"
	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/ops"
)

// config is the configuration of the program.
type config struct {
	Addr       string        `env:"AMPORA_VALIDATOR_ADDR" envDefault:"unix:/run/ampora-validator/validator.sock" help:"Where the control plane asks: unix:/PATH, a socket that its owner and group may use, or host:port of a loopback address."`
	Builds     string        `env:"AMPORA_VALIDATOR_BUILDS,required" help:"Folder with the builds of the Collector and their manifest, builds.yaml. Only an administrator should be able to write there."`
	Concurrent int           `env:"AMPORA_VALIDATOR_CONCURRENT" envDefault:"2" help:"How many builds run at once. Each needs memory for its own size besides AMPORA_VALIDATOR_MEMORY."`
	Time       time.Duration `env:"AMPORA_VALIDATOR_TIME" envDefault:"10s" help:"How long a run may take, and how much of a processor's time it may use."`
	Memory     int           `env:"AMPORA_VALIDATOR_MEMORY" envDefault:"2048" help:"How many MiB a run may map, its own code and what it only reserves among them."`
	Threads    int           `env:"AMPORA_VALIDATOR_THREADS" envDefault:"128" help:"How many threads a run may have."`
	Output     int           `env:"AMPORA_VALIDATOR_OUTPUT" envDefault:"64" help:"How many KiB a run may print."`
	LogLevel   slog.Level    `env:"AMPORA_VALIDATOR_LOG_LEVEL" envDefault:"INFO" help:"Least level that is logged: DEBUG, INFO, WARN or ERROR."`
	LogFormat  ops.LogFormat `env:"AMPORA_VALIDATOR_LOG_FORMAT" envDefault:"json" help:"Form of log records: json or text."`
}

// Validate says what is wrong or contradictory.
func (c *config) Validate() error {
	var problems []error
	if _, _, err := c.listen(); err != nil {
		problems = append(problems, fmt.Errorf("AMPORA_VALIDATOR_ADDR %w", err))
	}
	for _, number := range []struct {
		name             string
		value, low, high int
	}{
		{"AMPORA_VALIDATOR_CONCURRENT", c.Concurrent, 1, 64},
		{"AMPORA_VALIDATOR_MEMORY", c.Memory, 256, 1 << 16},
		{"AMPORA_VALIDATOR_THREADS", c.Threads, 16, 4096},
		{"AMPORA_VALIDATOR_OUTPUT", c.Output, 1, 512},
	} {
		if number.value < number.low || number.value > number.high {
			problems = append(problems, fmt.Errorf("%s must be from %d to %d", number.name, number.low, number.high))
		}
	}
	if c.Time < time.Second || c.Time > time.Minute {
		problems = append(problems, errors.New("AMPORA_VALIDATOR_TIME must be from 1s to 1m"))
	}
	return errors.Join(problems...)
}

// listen is where to listen.
func (c *config) listen() (network, address string, err error) {
	if path, unix := strings.CutPrefix(c.Addr, "unix:"); unix {
		if !strings.HasPrefix(path, "/") {
			return "", "", errors.New("must be unix: and an absolute path")
		}
		return "unix", path, nil
	}
	addr, err := netip.ParseAddrPort(c.Addr)
	if err != nil || !addr.Addr().IsLoopback() {
		return "", "", errors.New("must be unix:/PATH, or IP:PORT with a loopback address: whoever reaches it can have programs run")
	}
	return "tcp", c.Addr, nil
}

func (c *config) limits() sandbox.Limits {
	return sandbox.Limits{
		Time: c.Time, CPU: c.Time, Memory: uint64(c.Memory) << 20, Threads: uint64(c.Threads), Files: 64, Output: c.Output << 10, //nolint:gosec // validated
	}
}

//go:generate sh -c "{ echo '# Configuration of ampora-validator'; echo; echo 'Generated from `ampora-validator --help` by `make generate`; do not edit.'; echo; echo '```text'; go run . --help; echo '```'; } > ../../../docs/reference/config-ampora-validator.md"

func main() {
	sandbox.Enter()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := start(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "ampora-validator:", err)
		os.Exit(1)
	}
}

// start is the program as a value: what it is given is all it uses.
func start(ctx context.Context, args, environ []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		return inform(args, stdout)
	}
	if err := refuseSecrets(environ); err != nil {
		return err
	}
	c, notes, err := conf.Load[config](environ)
	if err != nil {
		return err
	}
	log := ops.NewLogger(stderr, c.LogLevel, c.LogFormat)
	for _, note := range notes {
		log.WarnContext(ctx, "about the configuration", slog.String("note", note))
	}
	if err := sandbox.Prove(ctx); err != nil {
		return fmt.Errorf("it does not run builds of the Collector on this machine: %w", err)
	}
	folder, err := builds.Open(builds.Options{Path: c.Builds, Limits: c.limits(), Concurrent: c.Concurrent, Log: log})
	if err != nil {
		return fmt.Errorf("AMPORA_VALIDATOR_BUILDS: %w", err)
	}
	defer func() { _ = folder.Close() }()
	return serve(ctx, &c, folder, log)
}

func inform(args []string, stdout io.Writer) error {
	switch args[0] {
	case "--version":
		_, err := fmt.Fprintln(stdout, "ampora-validator", ops.Version())
		return err
	case "--help", "-h":
		_, err := fmt.Fprintf(stdout, "ampora-validator has builds of the Collector validate configurations, isolated. It is configured by its environment:\n\n%s", conf.Usage[config]())
		return err
	default:
		return fmt.Errorf("%q is not an option; there are --help and --version, all else is in the environment", args[0])
	}
}

// refuseSecrets refuses an environment that was meant for another program of ours: what is in it might be told by a
// program that breaks out.
func refuseSecrets(environ []string) error {
	var foreign []string
	for _, setting := range environ {
		name, _, _ := strings.Cut(setting, "=")
		if strings.HasPrefix(name, conf.Prefix) && !strings.HasPrefix(name, "AMPORA_VALIDATOR_") {
			foreign = append(foreign, name)
		}
	}
	if foreign == nil {
		return nil
	}
	slices.Sort(foreign)
	return fmt.Errorf("its environment has %s, which may be or lead to a secret: programs that are not trusted run here, so start it with AMPORA_VALIDATOR_ variables alone",
		strings.Join(slices.Compact(foreign), ", "))
}

// Times of the listener.
const (
	headerTime   = 5 * time.Second
	readTime     = 15 * time.Second
	writeTime    = 2 * time.Minute
	shutdownTime = 5 * time.Second
)

// serve answers until ctx is done.
func serve(ctx context.Context, c *config, folder *builds.Folder, log *slog.Logger) error {
	l, err := open(ctx, c)
	if err != nil {
		return fmt.Errorf("AMPORA_VALIDATOR_ADDR: %w", err)
	}
	server := &http.Server{
		Handler: folder.Handler(), ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: writeTime,
		MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	log.InfoContext(ctx, "the validator listens", slog.String("address", c.Addr), slog.Int("builds", len(folder.List().Builds)))
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
	defer cancel()
	if server.Shutdown(brief) != nil {
		_ = server.Close()
	}
	log.InfoContext(brief, "the validator stopped in order")
	return nil
}

// open listens. A socket that a former run left behind is in the way of nobody but us; who may write to one may ask.
func open(ctx context.Context, c *config) (net.Listener, error) {
	network, address, err := c.listen()
	if err != nil {
		return nil, err
	}
	if network == "unix" {
		if info, err := os.Lstat(address); err == nil && info.Mode().Type() == os.ModeSocket {
			_ = os.Remove(address)
		}
		old := syscall.Umask(0o117)
		defer syscall.Umask(old)
	}
	var listen net.ListenConfig
	return listen.Listen(ctx, network, address) //nolint:wrapcheck // named by the caller
}
