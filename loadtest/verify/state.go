// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"google.golang.org/protobuf/encoding/protojson"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// State is what agents know of themselves at the end of a run, and what was done to them.
type State struct {
	// Faults is how many faults were injected, by kind.
	Faults map[string]int64
	// Agents are compared as [Compare] does.
	Agents []*amporav1.Agent
}

// Injected is how many faults there were in all.
func (s State) Injected() (n int64) {
	for _, count := range s.Faults {
		n += count
	}
	return n
}

// first is the first line of a file; it says how many lines follow, so that a file that
// was cut off is not taken for a smaller swarm.
type first struct {
	Format string           `json:"format"`
	Faults map[string]int64 `json:"faults"`
	Agents int              `json:"agents"`
}

const format = "ampora swarm state 1"

// Write writes the state into a file: a line of JSON for what was done, then one for each
// agent in the form of the API. The file is there whole or not at all.
func (s State) Write(path string) error {
	temporary := path + ".new"
	file, err := os.Create(temporary) //nolint:gosec // the caller's own choice
	if err != nil {
		return err
	}
	out := bufio.NewWriter(file)
	err = s.encode(out)
	if err = errors.Join(err, out.Flush(), file.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

func (s State) encode(out *bufio.Writer) error {
	line, err := json.Marshal(first{Format: format, Faults: s.Faults, Agents: len(s.Agents)})
	for _, agent := range s.Agents {
		if err != nil {
			return err
		}
		_, _ = out.Write(append(line, '\n')) // Flush says whether it went well
		line, err = protojson.Marshal(agent)
	}
	_, _ = out.Write(append(line, '\n'))
	return err
}

// maxLine bounds a line of a state file.
const maxLine = 4 << 20

// Read reads a file that [State.Write] wrote.
func Read(path string) (State, error) {
	file, err := os.Open(path) //nolint:gosec // the caller's own choice
	if err != nil {
		return State{}, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxLine)
	var header first
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &header) != nil || header.Format != format {
		return State{}, fmt.Errorf("%s is not the state of a swarm", path)
	}
	state := State{Faults: header.Faults}
	for lines.Scan() {
		agent := &amporav1.Agent{}
		if err := protojson.Unmarshal(lines.Bytes(), agent); err != nil {
			return State{}, fmt.Errorf("%s: %w", path, err)
		}
		state.Agents = append(state.Agents, agent)
	}
	if lines.Err() == nil && len(state.Agents) != header.Agents {
		return State{}, fmt.Errorf("%s has %d agents and says that it has %d", path, len(state.Agents), header.Agents)
	}
	return state, lines.Err()
}
