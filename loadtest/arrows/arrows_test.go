// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package arrows holds the tree to the arrows of the architecture: which package may know which, and why. Arrows point
// down only; each rule gives its reason, so that whoever meets it knows what would be lost.
package arrows

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

const root = "gitlab.com/ampora/ampora/"

// rule: packages that match from, tests left out, may import those of to only if they match but as well. Patterns are
// those of path.Match on the path below root, or a prefix ending in "...".
type rule struct {
	from string
	// never names what must not be imported; only, if set, names all of ours that may be.
	never  []string
	only   []string
	except []string // importing packages the rule is not for
	why    string
}

var rules = []rule{
	{from: "proto/...", only: []string{"proto/..."}, why: "generated code knows nothing but itself"},
	{from: "shared/...", only: []string{"shared/...", "proto/..."}, why: "both halves agree on shared, so it can know neither"},
	{from: "migrations", only: []string{"shared/..."}, why: "the schema is older than whatever reads it"},
	{from: "gateway/...", only: []string{"gateway/...", "shared/...", "proto/..."}, why: "a gateway has no database and no policy: it must be built without control"},
	{
		from: "control/...", never: []string{"gateway/...", "gateway"}, except: []string{"control/cmd/ampora/..."},
		why: "only the all-in-one joins both halves",
	},
	{
		from: "control/...", never: []string{"control/internal/pki/kms/drivers"}, except: []string{"control/cmd/ampora-control"},
		why: "only ampora-control carries the SDKs of key services",
	},
	{
		from: "control/internal/pki/kms", only: []string{"shared/..."},
		why: "a key service knows nothing of certificates and tenants",
	},
	{from: "control/internal/fleet", only: []string{}, why: "the vocabulary stands alone at the centre: everything may import it because it imports nothing"},
	{
		from: "control/internal/collector/...", only: []string{"control/internal/collector", "control/internal/expression", "control/internal/fleet", "shared/fault"},
		why: "what a configuration means depends on nothing but the configuration: no store, no API, no agent",
	},
	{from: "control/internal/sandbox", only: []string{}, why: "what isolates is small and knows nothing that could be had from it"},
	{
		from: "control/cmd/ampora-validator", only: []string{"control/internal/sandbox", "control/internal/validator/builds", "shared/conf", "shared/ops"},
		why: "where programs run that are not trusted there is no store, no key and no API to be found",
	},
	{
		from: "control/internal/validator/...",
		only: []string{"control/internal/validator", "control/internal/sandbox", "control/internal/collector"},
		why:  "likewise; of configurations they know the model alone",
	},
	{
		from: "control/...", never: []string{"control/internal/sandbox"},
		except: []string{"control/internal/sandbox", "control/internal/validator/builds", "control/cmd/ampora-validator"},
		why:    "no program that holds a secret runs others",
	},
	{from: "control/internal/expression", only: []string{"shared/..."}, why: "expressions know what they are given, not what it means"},
	{
		from: "control/internal/groups", only: []string{"control/internal/expression", "control/internal/fleet", "control/internal/store", "shared/..."},
		why: "groups choose by what the store knows of agents; who asks them is not their matter",
	},
	{from: "control/internal/delivery", only: []string{"control/internal/fleet"}, why: "deciding is pure: no I/O, no clock, nothing but the vocabulary"},
	{from: "control/internal/rollout", only: []string{"control/internal/fleet"}, why: "deciding is pure: no I/O, no clock, nothing but the vocabulary"},
	{from: "control/internal/calendar", only: []string{"control/internal/fleet"}, why: "what a schedule means is pure: no I/O, no clock, nothing but the vocabulary"},
	{
		from: "control/internal/store", only: []string{"control/internal/fleet"},
		why: "the store's contract is written in the vocabulary, so that no backend leaks through it",
	},
	{
		from: "control/...", never: []string{"control/internal/store/postgres", "control/internal/store/sqlite"},
		except: []string{"control", "control/internal/store/..."},
		why:    "only the wiring knows which database there is",
	},
	{
		from:  "control/internal/store/postgres",
		never: []string{"control/internal/store/sqlite"}, why: "adapters know the contract, never each other",
	},
	{
		from:  "control/internal/store/sqlite",
		never: []string{"control/internal/store/postgres"}, why: "adapters know the contract, never each other",
	},
	{
		from: "control/internal/store/verdict", only: []string{"control/internal/fleet", "control/internal/store", "control/internal/store/trail"},
		why: "what both backends decide alike is pure and knows neither",
	},
	{from: "control/internal/store/trail", only: []string{"control/internal/fleet", "control/internal/store", "control/internal/store/column"}, why: "what changes leave behind is said in the vocabulary"},
	{from: "control/internal/store/keyset", only: []string{"control/internal/fleet", "control/internal/store"}, why: "places in lists are the same on every backend"},
	{from: "control/internal/store/column", only: []string{"control/internal/fleet"}, why: "values in columns, without a driver"},
	{
		from: "control/internal/...", never: []string{"control/internal/api", "control/internal/cli"},
		except: []string{"control/internal/cli/..."},
		why:    "the API is the outermost room: it is called, it is not imported",
	},
	{
		from: "control/internal/cli/...", never: []string{"control/internal/..."}, except: []string{},
		only: []string{"control/internal/cli/...", "control/internal/cli", "shared/...", "proto/..."},
		why:  "the command line is a client of the public API like any other",
	},
	{
		from: "loadtest/swarm", only: []string{"loadtest/...", "proto/..."},
		why: "a stranger is written from the specification, or it repeats our mistakes",
	},
	{
		from: "loadtest/verify", only: []string{"loadtest/...", "proto/..."},
		why: "what the server knows is read from its API, as anybody can",
	},
	{
		from: "control/internal/engine", only: []string{"control/internal/calendar", "control/internal/delivery", "control/internal/fleet", "control/internal/rollout", "control/internal/store", "shared/..."},
		why: "the engine advances; what it advances to is decided in delivery and rollout, and kept in store",
	},
}

// foreign rules are about packages that are not ours.
var foreign = []struct {
	path   string // prefix of an import path
	within []string
	why    string
}{
	{"github.com/smallstep/certificates", []string{"control/internal/pki"}, "only pki certifies"},
	{"go.step.sm/crypto", []string{"control/internal/pki/..."}, "only pki certifies"},
	{"github.com/aws", []string{"control/internal/pki/kms/drivers"}, "SDKs of key services are heavy: the programs without them must not come by one"},
	{"github.com/Azure", []string{"control/internal/pki/kms/drivers"}, "likewise"},
	{"cloud.google.com/go/kms", []string{"control/internal/pki/kms/drivers"}, "likewise"},
	{
		"github.com/open-telemetry/opamp-go",
		[]string{"gateway/internal/opamp", "gateway/internal/gatewaytest", "control/internal/inbox", "loadtest/..."},
		"OpAMP's types stay where OpAMP is spoken and where it is read; everything between carries bytes",
	},
	{
		"github.com/jackc/pgx",
		[]string{"control/internal/store/postgres/...", "shared/bus/postgres", "migrations", "loadtest/..."},
		"the store and the bus speak to PostgreSQL; what they are for is said without it",
	},
	{"github.com/aymanbagabas/go-udiff", []string{"control/internal/collector"}, "bodies are compared in one place, within its bounds"},
	{"github.com/robfig/cron", []string{"control/internal/calendar"}, "what a schedule may cost is bounded in one place"},
	{"github.com/teambition/rrule-go", []string{"control/internal/calendar"}, "likewise"},
	{"cel.dev/cel-go", []string{"control/internal/expression"}, "what an expression may do and cost is bounded in one place"},
	{"github.com/elastic/go-seccomp-bpf", []string{"control/internal/sandbox"}, "what a program may call is decided in one place"},
	{"modernc.org/sqlite", []string{"control/internal/store/sqlite", "migrations", "loadtest/..."}, "one package speaks to SQLite"},
	{"github.com/gobwas/ws", []string{"gateway/internal/opamp", "gateway/internal/gatewaytest", "loadtest/..."}, "WebSocket frames are a matter of the OpAMP transport"},
	{"go.opentelemetry.io/otel/sdk", []string{"shared/ops/...", "loadtest/..."}, "instruments come from an injected meter; only ops knows where they go"},
}

type pkg struct {
	ImportPath string
	Imports    []string
}

func TestArrows(t *testing.T) {
	packages := workspace(t)
	for _, r := range rules {
		used := false
		for _, p := range packages {
			if !matches(p.name(), r.from) || matchesAny(p.name(), r.except) {
				continue
			}
			used = true
			for _, imported := range p.ours() {
				forbidden := matchesAny(imported, r.never) && !(r.only != nil && matchesAny(imported, r.only))
				unlisted := r.only != nil && !matchesAny(imported, r.only)
				if imported != p.name() && (forbidden || unlisted) {
					t.Errorf("%s must not import %s: %s", p.name(), imported, r.why)
				}
			}
		}
		if !used {
			t.Errorf("no package matches the rule for %s: it guards nothing", r.from)
		}
	}
}

func TestForeignArrows(t *testing.T) {
	for _, p := range workspace(t) {
		for _, imported := range p.Imports {
			for _, f := range foreign {
				if (imported == f.path || strings.HasPrefix(imported, f.path+"/")) && !matchesAny(p.name(), f.within) {
					t.Errorf("%s must not import %s: %s", p.name(), imported, f.why)
				}
			}
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{if and (not .Doc) .GoFiles}}{{.ImportPath}}{{end}}`, "work").Output()
	if err != nil {
		t.Fatal(describe(err))
	}
	for _, undocumented := range strings.Fields(string(out)) {
		if !strings.Contains(undocumented, "/proto/gen/") {
			t.Errorf("%s has no package comment: what does it guarantee?", undocumented)
		}
	}
}

// workspace lists the packages of all modules with what they import outside of tests.
func workspace(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "work").Output()
	if err != nil {
		t.Fatal(describe(err))
	}
	var list []pkg
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

func (p pkg) name() string { return strings.TrimPrefix(p.ImportPath, root) }

func (p pkg) ours() []string {
	var list []string
	for _, i := range p.Imports {
		if name, ok := strings.CutPrefix(i, root); ok {
			list = append(list, name)
		}
	}
	return list
}

func matchesAny(name string, patterns []string) bool {
	for _, p := range patterns {
		if matches(name, p) {
			return true
		}
	}
	return false
}

func matches(name, pattern string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == prefix || strings.HasPrefix(name, prefix+"/")
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

func describe(err error) string {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return string(exit.Stderr)
	}
	return err.Error()
}
