// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package place says where a server is that is to be measured: what it prints for
// whoever started it. It is apart from the measuring, so that the server has none of it.
package place

import (
	"encoding/json"
	"os"
)

// Place is where a target is, as its command says in one line of JSON when it is ready.
type Place struct {
	// OpAMP are the addresses where agents connect, host:port.
	OpAMP []string `json:"opamp"`
	// CAFile verifies them.
	CAFile string `json:"ca_file"`
	// PIDs are the processes whose memory and CPU are measured, Helpers those whose CPU is
	// told apart, with all their children: a database, a bus.
	PIDs    []int          `json:"pids"`
	Helpers map[string]int `json:"helpers,omitempty"`
	// Ops are base URLs of the processes' /metrics and /debug/pprof.
	Ops []string `json:"ops"`
	// Push is the URL of a fan-out without a control plane. Else there is an API.
	Push string `json:"push,omitempty"`
	// API is the URL of the public API, TokenFile what it is called with.
	API       string `json:"api,omitempty"`
	TokenFile string `json:"token_file,omitempty"`
}

// Announce prints the place, for whoever started this process.
func (p Place) Announce() error { return json.NewEncoder(os.Stdout).Encode(p) }
