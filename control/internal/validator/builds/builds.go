// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package builds runs builds of the Collector that an administrator has put into a folder, each with its digest in a
// manifest, to have them validate configurations.
//
// What is guaranteed: a build runs only isolated (package sandbox) and only with the bytes that the manifest has the
// digest of, looked at anew for each run. It is shown the configuration and nothing else. No more run at once than is
// allowed, and no more wait than a few. Nobody can add or name a file over the service.
package builds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"gitlab.com/ampora/ampora/control/internal/sandbox"
	"gitlab.com/ampora/ampora/control/internal/validator"
)

// mostWaiting is how many questions wait for each that runs.
const mostWaiting = 8

// Folder has builds.
type Folder struct {
	root    *os.Root
	entries []entry
	limits  sandbox.Limits
	log     *slog.Logger
	// waiting and running have room for as many as may.
	waiting, running chan struct{}
}

// Options are what a folder is opened with; all are required.
type Options struct {
	Path string
	// Limits of each run, and how many may run at once.
	Limits     sandbox.Limits
	Concurrent int
	Log        *slog.Logger
}

// Open reads the manifest of a folder and looks at each build once, so that a wrong digest is known at the start.
func Open(o Options) (*Folder, error) {
	root, err := os.OpenRoot(o.Path)
	if err != nil {
		return nil, fmt.Errorf("the folder of builds: %w", err)
	}
	f := &Folder{
		root: root, limits: o.Limits, log: o.Log,
		waiting: make(chan struct{}, mostWaiting*o.Concurrent), running: make(chan struct{}, o.Concurrent),
	}
	if f.entries, err = readManifest(root); err != nil {
		_ = root.Close()
		return nil, err
	}
	for _, e := range f.entries {
		p, err := f.load(e)
		if err != nil {
			_ = root.Close()
			return nil, fmt.Errorf("%s: %w", filepath.Join(o.Path, e.Path), err)
		}
		_ = p.Close()
	}
	return f, nil
}

// Close lets go of the folder.
func (f *Folder) Close() error { return f.root.Close() } //nolint:wrapcheck // says which it is

// load copies a build out of the folder, which links cannot lead out of.
func (f *Folder) load(e entry) (*sandbox.Program, error) {
	file, err := f.root.Open(e.Path)
	if err != nil {
		return nil, err //nolint:wrapcheck // named by the caller
	}
	defer func() { _ = file.Close() }()
	return sandbox.Load(file, e.digest) //nolint:wrapcheck // named by the caller
}

// List is what there is.
func (f *Folder) List() validator.Builds {
	list := validator.Builds{Builds: make([]validator.Build, len(f.entries))}
	for i, e := range f.entries {
		list.Builds[i] = validator.Build{Name: e.Name, Versions: e.Versions, SHA256: e.SHA256}
	}
	return list
}

// errBusy: as many run and wait as may.
var errBusy = errors.New("too many ask at once")

// Validate has a build look at a configuration. The error is errBusy, or that of ctx.
func (f *Folder) Validate(ctx context.Context, q validator.Question) (validator.Answer, error) {
	i := slices.IndexFunc(f.entries, func(e entry) bool { return e.Name == q.Name && slices.Contains(e.Versions, q.Version) })
	if i < 0 {
		return notAsked("the validator does not have this build"), nil
	}
	select {
	case f.waiting <- struct{}{}:
		defer func() { <-f.waiting }()
	default:
		return validator.Answer{}, errBusy
	}
	select {
	case f.running <- struct{}{}:
		defer func() { <-f.running }()
	case <-ctx.Done():
		return validator.Answer{}, ctx.Err() //nolint:wrapcheck // the caller's own
	}
	return f.run(ctx, f.entries[i], q.Config)
}

func notAsked(why string) validator.Answer {
	return validator.Answer{Outcome: validator.NotAsked, Why: why}
}

func (f *Folder) run(ctx context.Context, e entry, config []byte) (validator.Answer, error) {
	log := f.log.With(slog.String("build", e.Name), slog.String("path", e.Path))
	p, err := f.load(e)
	if err != nil {
		log.ErrorContext(ctx, "a build cannot be used", slog.Any("error", err))
		return notAsked("the build on the validator's disk is not the one of its manifest"), nil
	}
	defer func() { _ = p.Close() }()
	begun := time.Now()
	r, err := p.Run(ctx, sandbox.Job{
		Args: []string{"validate", "--config=file:/config.yaml"}, Files: surroundings(config), Limits: f.limits,
	})
	switch {
	case ctx.Err() != nil:
		return validator.Answer{}, ctx.Err() //nolint:wrapcheck // the caller's own
	case err != nil:
		log.ErrorContext(ctx, "a build does not run", slog.Any("error", err))
		return notAsked("the build cannot be run in isolation; the validator's log says why"), nil
	}
	a := f.answer(r)
	log.InfoContext(ctx, "a build looked at a configuration", slog.String("outcome", string(a.Outcome)), slog.String("why", a.Why),
		slog.Int("code", r.Code), slog.Int64("milliseconds", time.Since(begun).Milliseconds()))
	return a, nil
}

// surroundings are the files that a build sees: the configuration, and a machine with 4 GiB in no cgroup, without which the
// memory_limiter refuses every configuration that gives its limit in percent.
func surroundings(config []byte) map[string][]byte {
	return map[string][]byte{
		"config.yaml": config, "proc/self/mountinfo": {}, "proc/self/cgroup": {},
		"proc/meminfo": []byte("MemTotal: 4194304 kB\nMemFree: 4194304 kB\nMemAvailable: 4194304 kB\n"),
	}
}

// answer turns the end of a run into an answer: a Collector ends with 0 if it takes the configuration, with 1 if not, and
// never otherwise.
func (f *Folder) answer(r sandbox.Result) validator.Answer {
	stopped := func(format string, args ...any) validator.Answer {
		return validator.Answer{Outcome: validator.Stopped, Why: fmt.Sprintf(format, args...)}
	}
	switch {
	case r.Reason == sandbox.Time:
		return stopped("it was stopped, for it took longer than %s", f.limits.Time)
	case r.Reason == sandbox.CPU:
		return stopped("it was stopped, for it used more than %s of a processor", f.limits.CPU)
	case r.Reason == sandbox.Output:
		return stopped("it was stopped, for it printed more than %d bytes", f.limits.Output)
	case r.Reason == sandbox.Killed:
		return stopped("it crashed, or used more memory than there is")
	case r.Code == 0:
		return validator.Answer{Outcome: validator.Accepted}
	case r.Code == 1:
		return validator.Answer{Outcome: validator.Refused, Output: string(r.Output)}
	default:
		return stopped("it broke off with code %d, perhaps for want of memory: %.200s", r.Code, r.Output)
	}
}
