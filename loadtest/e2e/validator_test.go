// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestValidator: the collector's own verdict is shown before anything is pushed. What it is shown holds no secret, and what
// cannot be had from it holds nothing up.
func TestValidator(t *testing.T) {
	t.Parallel()
	for _, flavour := range []rig.Flavour{rig.Development, rig.SplitPostgres} {
		t.Run(string(flavour), func(t *testing.T) {
			t.Parallel()
			s := rig.NewServer(t, flavour)
			addr := rig.FreeAddr(t)
			for _, part := range s.Parts {
				part.Env["AMPORA_VALIDATOR_URL"] = "http://" + addr
			}
			s.Start()
			supervised(s, "edge", rig.Example(t, "supervisor-enrolled.yaml"))
			good := file(t, s, "good.yaml", newPipeline(t, "x").yaml())

			// A check does not wait for who is away.
			if v := verdict(t, s, good); v.GetOutcome() != amporav1.CollectorOutcome_COLLECTOR_OUTCOME_NOT_ASKED || v.GetWhy() != "the validator does not answer" {
				t.Errorf("without a validator: %v", v)
			}
			if !validator(t, s, addr) {
				if v := verdict(t, s, good); v.GetOutcome() != amporav1.CollectorOutcome_COLLECTOR_OUTCOME_NOT_ASKED {
					t.Errorf("without isolation: %v", v)
				}
				return
			}
			for _, c := range toldByTheValidator {
				t.Run(c.name, func(t *testing.T) {
					v := verdict(t, s, file(t, s, "config.yaml", c.body))
					if v.GetOutcome() != c.outcome {
						t.Errorf("the verdict is %v", v)
					}
					said := v.String()
					if !strings.Contains(said, c.says) || strings.Contains(said, "AMPORA_MASTER_KEY") ||
						strings.Contains(said, "root:") || strings.Contains(said, "hunter2") {
						t.Errorf("it says %s", said)
					}
				})
			}
			t.Run("golden configurations", func(t *testing.T) { accusesNobody(t, s) })
			bad := file(t, s, "config.yaml", toldByTheValidator[1].body)
			shown := s.CLI("configs", "check", "-f", bad, "--all")
			if shown.Code != 2 || !strings.Contains(shown.Stdout, "itself says:") || !strings.Contains(shown.Stdout, "has invalid keys: foo") ||
				!strings.Contains(shown.Stdout, "valid on 0 agents, invalid on 1") {
				t.Errorf("a person sees (exit %d)\n%s%s", shown.Code, shown.Stdout, shown.Stderr)
			}
		})
	}
}

// around puts settings of the exporter into a configuration.
func around(settings string) string {
	return "receivers: {nop: }\nexporters:\n  otlp: " + settings + "\nservice: {pipelines: {traces: {receivers: [nop], exporters: [otlp]}}}\n"
}

var toldByTheValidator = []struct {
	name, body string
	outcome    amporav1.CollectorOutcome
	says       string
}{
	{"good", around("{endpoint: 'a.example.com:4317'}"), amporav1.CollectorOutcome_COLLECTOR_OUTCOME_ACCEPTED, ""},
	{"an unknown field", around("{endpoint: 'a.example.com:4317', foo: 1}"), amporav1.CollectorOutcome_COLLECTOR_OUTCOME_REFUSED, `path:"exporters::otlp::foo"`},
	{"a field of the wrong type", around("{endpoint: 'a.example.com:4317', tls: {insecure: maybe}}"), amporav1.CollectorOutcome_COLLECTOR_OUTCOME_REFUSED, `path:"exporters::otlp::tls::insecure"`},
	{"a value it does not like", around("{endpoint: 'a.example.com:4317', sending_queue: {queue_size: -1}}"), amporav1.CollectorOutcome_COLLECTOR_OUTCOME_REFUSED, "`queue_size` must be positive"},
	{
		"references of every type", around("{endpoint: '${env:HOST}:4317', timeout: '${env:T}', tls: {insecure: '${env:I}'}, headers: {x: '${file:/x}'}, sending_queue: '${env:Q}'}"),
		amporav1.CollectorOutcome_COLLECTOR_OUTCOME_ACCEPTED, "",
	},
	{
		"a share of the memory", strings.Replace(around("{endpoint: 'a.example.com:4317'}"), "receivers: [nop],", "receivers: [nop], processors: [memory_limiter],", 1) +
			"processors: {memory_limiter: {check_interval: 1s, limit_percentage: 80, spike_limit_percentage: 20}}\n",
		amporav1.CollectorOutcome_COLLECTOR_OUTCOME_ACCEPTED, "",
	},
	{
		"a secret of the environment", around("{endpoint: 'a.example.com:4317', timeout: '${env:AMPORA_MASTER_KEY}', compression: '${AMPORA_MASTER_KEY}'}"),
		amporav1.CollectorOutcome_COLLECTOR_OUTCOME_UNCERTAIN, "cannot be known",
	},
	{"a secret of its own", around("{endpoint: 'a.example.com:4317', auth: {authenticator: x}, password: hunter2}"), amporav1.CollectorOutcome_COLLECTOR_OUTCOME_REFUSED, `path:"exporters::otlp::password"`},
	{"a file", around("{endpoint: 'a.example.com:4317', tls: {ca_file: /etc/passwd}, compression: '${file:/etc/passwd}'}"), amporav1.CollectorOutcome_COLLECTOR_OUTCOME_UNCERTAIN, ""},
	{"the network", around("{endpoint: 'a.example.com:4317', compression: '${http://127.0.0.1:1/}'}"), amporav1.CollectorOutcome_COLLECTOR_OUTCOME_UNCERTAIN, ""},
	{
		"a pipeline without an end", "receivers: {nop: }\nexporters: {nop: }\nservice: {pipelines: {traces: {receivers: [nop], exporters: [missing]}}}\n",
		amporav1.CollectorOutcome_COLLECTOR_OUTCOME_REFUSED, `references exporter \"missing\" which is not configured`,
	},
}

// accusesNobody: a golden configuration in which we find no error is not refused, whatever placeholders stand in it and
// whatever files it names, unless for a component that the build does not have.
func accusesNobody(t *testing.T, s *rig.Server) {
	t.Helper()
	// Its feature gate is off in this build, which is a warning of ours; the order of its keys is a matter of chance.
	except := []string{"profiles.golden", "split-keys.golden"}
	goldens, err := filepath.Glob(filepath.Join(rig.Root(t), "control/internal/collector/testdata/configs/*.golden"))
	if err != nil {
		t.Fatal(err)
	}
	judged := map[amporav1.CollectorOutcome]int{}
	for _, golden := range goldens {
		findings, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(except, filepath.Base(golden)) || strings.Contains(string(findings), " error ") {
			continue
		}
		v := verdict(t, s, strings.TrimSuffix(golden, ".golden")+".yaml")
		if strings.Contains(v.String(), "unknown type") {
			continue
		}
		judged[v.GetOutcome()]++
		if o := v.GetOutcome(); o != amporav1.CollectorOutcome_COLLECTOR_OUTCOME_ACCEPTED && o != amporav1.CollectorOutcome_COLLECTOR_OUTCOME_UNCERTAIN {
			t.Errorf("%s: %v", golden, v)
		}
	}
	t.Logf("judged: %v", judged)
	if judged[amporav1.CollectorOutcome_COLLECTOR_OUTCOME_ACCEPTED] < 3 {
		t.Error("hardly any is accepted")
	}
}

// verdict is what the only build of the only agent says of a file.
func verdict(t *testing.T, s *rig.Server, path string) *amporav1.CollectorVerdict {
	t.Helper()
	return build(t, s, path).GetCollector()
}

// build is what is said about the only build there is. The exit code of a check is of no matter here.
func build(t *testing.T, s *rig.Server, path string) *amporav1.BuildVerdict {
	t.Helper()
	answer := new(amporav1.CheckConfigResponse)
	result := s.CLI("configs", "check", "-f", path, "--all", "-o", "json")
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(result.Stdout), answer); err != nil || len(answer.GetBuilds()) != 1 {
		t.Fatalf("a check says (exit %d, %v)\n%s%s", result.Code, err, result.Stdout, result.Stderr)
	}
	return answer.GetBuilds()[0]
}

// validator starts one that has the build of the supervisor's agents. Where the machine does not isolate it must end and
// say so, and there is none.
func validator(t *testing.T, s *rig.Server, addr string) bool {
	t.Helper()
	folder := filepath.Join(s.Dir, "builds")
	whole, err := os.ReadFile(rig.Theirs(t, "otelcol"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	reported := build(t, s, filepath.Join(s.Dir, "good.yaml"))
	manifest := fmt.Sprintf("builds:\n  - name: %s\n    versions: [%s]\n    sha256: %x\n    path: otelcol\n", reported.GetServiceName(), reported.GetServiceVersion(), sha256.Sum256(whole))
	for name, body := range map[string][]byte{"otelcol": whole, "builds.yaml": []byte(manifest)} {
		if err := os.WriteFile(filepath.Join(folder, name), body, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p := rig.Start(t, rig.Command{
		Name: "ampora-validator", Path: rig.Ours(t, "ampora-validator"), Dir: s.Dir, Stop: syscall.SIGTERM,
		Env: map[string]string{"AMPORA_VALIDATOR_ADDR": addr, "AMPORA_VALIDATOR_BUILDS": folder},
	})
	for {
		select {
		case <-p.Exited():
			if !strings.Contains(p.Log(), "programs cannot be isolated here") {
				t.Fatalf("it ended: %s", p.Log())
			}
			t.Log("this machine does not isolate, and the validator says so")
			return false
		case <-time.After(50 * time.Millisecond):
		}
		if c, err := net.DialTimeout("tcp", addr, time.Second); err == nil {
			_ = c.Close()
			return true
		}
	}
}
