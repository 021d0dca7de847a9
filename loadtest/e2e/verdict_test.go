// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/loadtest/rig"
)

// disagreements are where the real Collector's verdict is another than ours, by the file, with a part of what it says.
var disagreements = map[string]string{ //nolint:gosec // names of files, one of which is about secrets
	// It looks into files, and at settings, which are for the component to know.
	"testdata/configs/references-everywhere.yaml": "no such file or directory",
	"testdata/configs/secrets-written-out.yaml":   "no such file or directory",
	"testdata/configs/databases.yaml":             "no such file or directory",
	// What another build or version may take is a warning.
	"testdata/configs/profiles.yaml":         "service.profilesSupport",
	"examples/profiles-gate/bad.yaml":        "service.profilesSupport",
	"examples/telemetry-key/bad.yaml":        "invalid keys: address",
	"examples/deprecated-component/bad.yaml": "the logging exporter has been deprecated",
	// It refuses these when it starts, not when it validates.
	"testdata/configs/lossy-exporters.yaml":   "",
	"examples/extension-not-enabled/bad.yaml": "",
	// What is asked for of the agent is put in before a Collector sees it.
	"examples/template-reference/good.yaml": "scheme \"ampora\" is not supported",
	// It reads the first document alone, and the supervisor's parser as well: what was meant is lost.
	"examples/config-not-a-mapping/bad.yaml": "",
}

// chance decides what the Collector says of these.
var chance = []string{"examples/split-clash/bad.yaml", "testdata/configs/split-keys.yaml"}

// TestVerdict asks the real Collector what it says of the golden configurations and of the examples of the rules. It
// must refuse those in which an error is found, and no others. Configurations with components that it was not built
// with are left out, and logged; make verdict asks one that has most of them.
func TestVerdict(t *testing.T) {
	otelcol := rig.Theirs(t, "otelcol")
	lacking := map[string]int{}
	judged := 0
	for name, wrong := range verdicts(t) {
		if slices.Contains(chance, name) {
			continue
		}
		refused := validate(t, otelcol, name)
		if match := unknownType.FindStringSubmatch(refused); len(match) > 1 {
			lacking[match[1]]++
			continue
		}
		judged++
		said, known := disagreements[name]
		switch agree := wrong == (refused != ""); {
		case agree && known:
			t.Errorf("%s: agreed, and listed as a disagreement", name)
		case !agree && (!known || !strings.Contains(refused, said)):
			t.Errorf("%s: errors are found: %v; the Collector says %q", name, wrong, refused)
		}
	}
	for _, kind := range slices.Sorted(maps.Keys(lacking)) {
		t.Logf("no component %s: %d configurations left out", kind, lacking[kind])
	}
	t.Logf("judged %d", judged)
	if judged < 70 {
		t.Errorf("only %d were judged", judged)
	}
}

var unknownType = regexp.MustCompile(`unknown type: "(\w+)"`)

// validate returns what the Collector says against a configuration, empty for nothing.
func validate(t *testing.T, otelcol, name string) string {
	t.Helper()
	command := exec.Command(otelcol, "validate", "--config", filepath.Join(rig.Root(t), collectorPackage, name))
	command.Env = append(os.Environ(), "MY_POD_IP=127.0.0.1", "BACKEND=localhost", "BACKEND_TOKEN=x", "KAFKA_PASSWORD=x")
	out, err := command.CombinedOutput()
	if err == nil {
		return ""
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

const collectorPackage = "control/internal/collector"

// verdicts says of each file whether an error is found in it: golden configurations by their golden files, examples by
// the severity of their rule on the page of the reference.
func verdicts(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	read := func(name string) string {
		body, err := os.ReadFile(filepath.Join(rig.Root(t), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	goldens, err := filepath.Glob(filepath.Join(rig.Root(t), collectorPackage, "testdata/configs/*.golden"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^[0-9]+:[0-9]+ error `)
	for _, golden := range goldens {
		name := "testdata/configs/" + strings.TrimSuffix(filepath.Base(golden), ".golden")
		all[name+".yaml"] = found.MatchString(read(collectorPackage + "/" + name + ".golden"))
	}
	row := regexp.MustCompile(`(?m)^\| \[([a-z-]+)\]\(#[a-z-]+\) \| (\w+) \| (\w+) \|`)
	for _, match := range row.FindAllStringSubmatch(read("docs/reference/config-rules.md"), -1) {
		all["examples/"+match[1]+"/good.yaml"] = false
		if layer := match[2]; layer != "build" {
			all["examples/"+match[1]+"/bad.yaml"] = match[3] == "error"
		}
	}
	return all
}
