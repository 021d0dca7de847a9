// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"encoding/csv"
	"strings"
	"testing"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// What an agent calls itself is no formula to whoever opens the export in a spreadsheet.
func TestExportedCellsAreNoFormulas(t *testing.T) {
	for cell, want := range map[string]string{
		`=HYPERLINK("http://evil")`: `'=HYPERLINK("http://evil")`,
		"+1":                        "'+1",
		"-2+3":                      "'-2+3",
		"@SUM(A1)":                  "'@SUM(A1)",
		"\t=1":                      "'\t=1",
		"\r\n=1":                    "'\r\n=1",
		"  =1":                      "'  =1",
		"host-1":                    "host-1",
		"a=b":                       "a=b",
		"":                          "",
	} {
		if got := unformulated(cell); got != want {
			t.Errorf("%q becomes %q, want %q", cell, got, want)
		}
	}
	inWorld(t, func(t *testing.T, w *world) {
		w.state.agents = []*amporav1.Agent{{Id: agentEvil, HostName: "=1+1\"\r\n,x", ServiceName: "@x"}}
		out := w.run("agents", "export", "--presence", "unknown")
		rows, err := csv.NewReader(strings.NewReader(out.out)).ReadAll()
		if err != nil || len(rows) != 1 {
			t.Fatalf("%v, %v", rows, err) // only those unknown are asked for
		}
		w.state.agents[0].Presence = amporav1.Presence_PRESENCE_UNKNOWN
		out = w.run("agents", "export", "--presence", "unknown")
		rows, err = csv.NewReader(strings.NewReader(out.out)).ReadAll()
		if err != nil || len(rows) != 2 || rows[1][4] != "'=1+1\"\n,x" || rows[1][2] != "'@x" {
			t.Errorf("%q, %v", rows, err)
		}
	})
}
