// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/loadtest/place"
)

// Target is something to be measured.
type Target struct {
	Name string
	// Command starts it in the foreground, announces its [place.Place], and stops it on SIGTERM.
	// It keeps its state, if it has any, in the folder that BENCH_DIR names.
	Command []string
}

// ParseTarget reads NAME=COMMAND, whose words are separated by blanks.
func ParseTarget(text string) (Target, error) {
	name, command, _ := strings.Cut(text, "=")
	words := strings.Fields(command)
	if name == "" || len(words) == 0 {
		return Target{}, fmt.Errorf("a target has the form NAME=COMMAND, got %q", text)
	}
	return Target{Name: name, Command: words}, nil
}

// running is a target that was started.
type running struct {
	place.Place
	cmd    *exec.Cmd
	exited chan error
}

// startTime is how long a target may take to be ready, stopTime to end.
const (
	startTime = 2 * time.Minute
	stopTime  = time.Minute
)

// start starts a target with the environment of this process and more.
func (t Target) start(ctx context.Context, env []string) (*running, error) {
	r := &running{cmd: exec.CommandContext(ctx, t.Command[0], t.Command[1:]...), exited: make(chan error, 1)} //nolint:gosec // the caller's own choice
	r.cmd.Env, r.cmd.Stderr = append(os.Environ(), env...), os.Stderr
	r.cmd.Cancel = func() error { return r.cmd.Process.Signal(syscall.SIGTERM) }
	r.cmd.WaitDelay = stopTime
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", t.Name, err)
	}
	line := make(chan string, 1)
	go func() {
		text, _ := bufio.NewReader(out).ReadString('\n') // "" is what a target says that ended
		line <- text
		r.exited <- r.cmd.Wait()
	}()
	select {
	case text := <-line:
		err = json.Unmarshal([]byte(text), &r.Place)
	case <-time.After(startTime):
		err = errors.New("it is not ready in time")
	}
	if err != nil || len(r.OpAMP) == 0 || len(r.PIDs) == 0 || (r.Push == "") == (r.API == "") {
		return nil, errors.Join(fmt.Errorf("%s does not say where it is: %+v", t.Name, r.Place), err, r.stop())
	}
	return r, nil
}

func (r *running) stop() error {
	_ = r.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case err := <-r.exited:
		return err
	case <-time.After(stopTime):
		return errors.Join(errors.New("it does not stop"), r.cmd.Process.Kill())
	}
}
