// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// pool creates a pool and returns the file of its secret.
func pool(t *testing.T, s *rig.Server, name string, flags ...string) (secretFile string) {
	t.Helper()
	secretFile = filepath.Join(s.Dir, name+".pool-secret")
	s.Do(append([]string{"token-pools", "create", name, "--out", secretFile}, flags...)...)
	s.Keep(strings.TrimSpace(read(t, secretFile)))
	return secretFile
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// drawn is the one token of a pool that was redeemed by an agent.
func drawn(t *testing.T, s *rig.Server, pool string) *amporav1.BootstrapToken {
	t.Helper()
	list := new(amporav1.ListBootstrapTokensResponse)
	s.Get(list, "tokens", "list")
	of := slices.DeleteFunc(list.GetTokens(), func(token *amporav1.BootstrapToken) bool {
		return token.GetPool() != pool || token.GetState() != amporav1.TokenState_TOKEN_STATE_REDEEMED
	})
	if len(of) != 1 {
		t.Fatalf("the redeemed tokens of %s are %v", pool, of)
	}
	return of[0]
}

// TestPoolCloudInit: the user data of the docs, with what an operator puts in, runs as a machine runs it at its first boot,
// and the machine's supervisor comes up in the pool's group. The pool is at its rate, so the machine waits as it is told.
func TestPoolCloudInit(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		s.Do("groups", "create", "web")
		secret := pool(t, s, "asg", "--group", "web", "--per-hour", "900", "--burst", "1")
		s.Keep(strings.TrimSpace(s.Do("token-pools", "draw", "--secret-file", secret)))
		machine := t.TempDir()
		script := boot(t, machine, map[string]string{
			"POOL_SECRET": strings.TrimSpace(read(t, secret)), "API_URL": "http://" + s.API, "GATEWAY_URL": "https://" + s.OpAMP,
			"SERVER_CA_PEM": read(t, s.CAFile),
		})
		dir := filepath.Join(machine, "etc/ampora")
		enrol := func() rig.Result {
			return rig.Run(t, rig.Command{
				Name: "ampora-enrol", Path: script, Dir: machine,
				Env: map[string]string{"AMPORA_DIR": dir, "PATH": filepath.Dir(rig.Ours(t, "amporactl")) + ":" + os.Getenv("PATH")},
			}, "")
		}
		for range 2 { // the second boot finds what the first one left
			if got := enrol(); got.Code != 0 {
				t.Fatalf("exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
			}
		}
		if refused := s.Do("audit", "list"); !strings.Contains(refused, "POOL_RATE_LIMITED") {
			t.Errorf("it did not have to wait:\n%s", refused)
		}
		for _, gone := range []string{"pool-secret", "pool-header", "token"} {
			if _, err := os.Stat(filepath.Join(dir, gone)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", gone, err)
			}
		}
		token := drawn(t, s, "asg")
		s.Supervisor("supervisor", rig.Example(t, "supervisor-enrolled.yaml"), map[string]string{"AMPORA_IDENTITY": filepath.Join(dir, "identity")}).Start()
		agent := s.AwaitOnline(token.GetAgentId())
		if agent.GetGroupName() != "web" {
			t.Errorf("it is in the group %q", agent.GetGroupName())
		}
		if host, err := os.Hostname(); err != nil || token.GetDescription() != host {
			t.Errorf("the token says %q", token.GetDescription())
		}
		audited := new(amporav1.ListAuditEventsResponse)
		s.Get(audited, "audit", "list", "--entity", agent.GetId())
		var enrolled struct{ Pool, Token string }
		if e := audited.GetEvents(); len(e) != 1 || json.Unmarshal([]byte(e[0].GetAfter()), &enrolled) != nil || enrolled.Pool != "asg" || enrolled.Token != token.GetId() {
			t.Errorf("its enrolment is audited as %v", e)
		}
	})
}

// boot does with the example what cloud-init does with user data: it writes the files, below root, and returns the first
// program that it would run.
func boot(t *testing.T, root string, values map[string]string) (program string) {
	t.Helper()
	text := read(t, rig.Example(t, "pool-cloud-init.yaml"))
	if !strings.HasPrefix(text, "#cloud-config\n") {
		t.Fatal("cloud-init does not take it for its own")
	}
	var data struct {
		WriteFiles []struct{ Path, Permissions, Content string } `yaml:"write_files"`
		RunCmd     [][]string                                    `yaml:"runcmd"`
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&data); err != nil {
		t.Fatal(err)
	}
	for _, f := range data.WriteFiles {
		for name, value := range values {
			f.Content = strings.ReplaceAll(f.Content, name, value)
		}
		mode, err := strconv.ParseUint(f.Permissions, 8, 32)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(root, f.Path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(f.Content), os.FileMode(mode))); err != nil {
			t.Fatal(err)
		}
	}
	if len(data.RunCmd) != 2 || data.RunCmd[1][0] != "systemctl" {
		t.Fatalf("it runs %v", data.RunCmd)
	}
	return filepath.Join(root, data.RunCmd[0][0])
}

// The parts of Kubernetes' objects that the test looks at.
type (
	manifest struct {
		Kind       string
		Metadata   struct{ Name string }
		StringData map[string]string `yaml:"stringData"`
		Data       map[string]string
		Spec       struct {
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			}
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					InitContainers []container `yaml:"initContainers"`
					Containers     []container
					Volumes        []struct {
						Name      string
						ConfigMap struct{ Name string } `yaml:"configMap"`
						Secret    struct {
							SecretName string `yaml:"secretName"`
						}
						EmptyDir *struct{} `yaml:"emptyDir"`
					}
				}
			}
		}
	}
	container struct {
		Name          string
		Command, Args []string
		Env           []struct{ Name, Value string }
		VolumeMounts  []struct {
			Name      string
			MountPath string `yaml:"mountPath"`
		} `yaml:"volumeMounts"`
	}
)

// TestPoolKubernetes: the init container of the docs runs as a pod runs it, with its volumes as folders, and the collector
// beside it comes up with the identity that it left.
func TestPoolKubernetes(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		secret := pool(t, s, "pods")
		pod := mount(t, map[string]string{
			"POOL_SECRET": strings.TrimSpace(read(t, secret)), "SERVER_CA_PEM": read(t, s.CAFile),
			"COLLECTOR_YAML": read(t, rig.Example(t, "collector-ws.yaml")),
		})
		enrol := pod.spec.InitContainers[0]
		env := pod.env(enrol)
		env["AMPORA_SERVER"], env["AMPORA_GATEWAY"], env["POD_NAME"] = "http://"+s.API, "https://"+s.OpAMP, "collector-7d4f9-x2x4z"
		env["PATH"] = filepath.Dir(rig.Ours(t, "amporactl")) + ":" + os.Getenv("PATH")
		for range 2 {
			got := rig.Run(t, rig.Command{Name: "enrol", Path: enrol.Command[0], Args: append(enrol.Command[1:], enrol.Args...), Dir: t.TempDir(), Env: env}, "")
			if got.Code != 0 {
				t.Fatalf("exit code %d\n%s%s", got.Code, got.Stdout, got.Stderr)
			}
		}
		token := drawn(t, s, "pods")
		if token.GetDescription() != "collector-7d4f9-x2x4z" {
			t.Errorf("the token says %q", token.GetDescription())
		}
		collector := pod.spec.Containers[0]
		config, found := strings.CutPrefix(collector.Args[0], "--config=")
		if !found {
			t.Fatalf("the collector's arguments are %v", collector.Args)
		}
		s.Collector("collector", pod.path(config), map[string]string{"AMPORA_IDENTITY": pod.env(collector)["AMPORA_IDENTITY"]}).Start()
		s.AwaitAgentTo(token.GetAgentId(), "tell everything", reportsAll)
	})
}

// mounted is a pod whose volumes are folders.
type mounted struct {
	spec struct{ InitContainers, Containers []container }
	at   map[string]string // folders by mount path
}

// path is a path in a container, as one on this machine.
func (m mounted) path(in string) string {
	for mount, folder := range m.at {
		if rest, below := strings.CutPrefix(in, mount+"/"); below {
			return filepath.Join(folder, rest)
		}
	}
	return in
}

func (m mounted) env(c container) map[string]string {
	env := map[string]string{}
	for _, v := range c.Env {
		env[v.Name] = m.path(v.Value)
	}
	return env
}

// mount makes the folders that the example's volumes are, with what they hold, and checks that what refers to something
// refers to something that is there.
func mount(t *testing.T, values map[string]string) mounted {
	t.Helper()
	objects := map[string]manifest{}
	decoder := yaml.NewDecoder(strings.NewReader(read(t, rig.Example(t, "pool-kubernetes.yaml"))))
	for {
		var m manifest
		err := decoder.Decode(&m)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		objects[m.Kind+"/"+m.Metadata.Name] = m
	}
	deployment := objects["Deployment/collector"].Spec
	if app := deployment.Selector.MatchLabels["app"]; app == "" || deployment.Template.Metadata.Labels["app"] != app {
		t.Errorf("the deployment selects %v, its pods are %v", deployment.Selector.MatchLabels, deployment.Template.Metadata.Labels)
	}
	folders := map[string]string{}
	for _, volume := range deployment.Template.Spec.Volumes {
		folder := t.TempDir()
		folders[volume.Name] = folder
		content := objects["ConfigMap/"+volume.ConfigMap.Name].Data
		if volume.Secret.SecretName != "" {
			content = objects["Secret/"+volume.Secret.SecretName].StringData
		}
		if content == nil && volume.EmptyDir == nil {
			t.Errorf("the volume %s is of nothing", volume.Name)
		}
		for name, value := range content {
			if put, known := values[value]; known {
				value = put
			}
			if err := os.WriteFile(filepath.Join(folder, name), []byte(value), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	m := mounted{at: map[string]string{}}
	m.spec.InitContainers, m.spec.Containers = deployment.Template.Spec.InitContainers, deployment.Template.Spec.Containers
	for _, c := range slices.Concat(m.spec.InitContainers, m.spec.Containers) {
		for _, v := range c.VolumeMounts {
			if folders[v.Name] == "" {
				t.Errorf("the container %s mounts %s, which is no volume", c.Name, v.Name)
			}
			m.at[v.MountPath] = folders[v.Name]
		}
	}
	return m
}

// TestPoolCommands: an operator's day with a pool, and what each step means to a machine that draws.
func TestPoolCommands(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		secret := pool(t, s, "asg", "--per-hour", "1", "--burst", "3", "--live-limit", "2")
		draw := func(file string, code int, reason string) string {
			t.Helper()
			got := s.CLIWith(map[string]string{"AMPORA_TOKEN_FILE": ""}, "", "token-pools", "draw", "--secret-file", file)
			if got.Code != code || !strings.Contains(got.Stderr, reason) {
				t.Fatalf("draw: exit code %d\n%s%s, want %d %s", got.Code, got.Stdout, got.Stderr, code, reason)
			}
			s.Keep(strings.TrimSpace(got.Stdout))
			return strings.TrimSpace(got.Stdout)
		}
		draw(secret, 0, "expires")
		first := draw(secret, 0, "expires")
		draw(secret, 6, "POOL_EXHAUSTED")
		s.Do("token-pools", "update", "asg", "--live-limit", "0")
		draw(secret, 0, "expires")
		draw(secret, 6, "POOL_RATE_LIMITED (retry_after_seconds=")
		s.Do("token-pools", "update", "asg", "--per-hour", "1000", "--burst", "100", "--disable")
		draw(secret, 7, "POOL_DISABLED")
		s.Do("token-pools", "update", "asg", "--enable")

		rotated := filepath.Join(s.Dir, "rotated.pool-secret")
		s.Do("token-pools", "rotate-secret", "asg", "--out", rotated)
		s.Keep(strings.TrimSpace(read(t, rotated)))
		draw(secret, 5, "TOKEN_INVALID")
		draw(rotated, 0, "expires")

		if got := s.Do("token-pools", "delete", "asg"); !strings.Contains(got, "tokens revoked: 4") {
			t.Errorf("delete says %q", got)
		}
		draw(rotated, 5, "TOKEN_INVALID")
		if _, err := s.Stranger().Enrol(t.Context(), first); err == nil {
			t.Error("a token of a deleted pool enrols")
		}
	})
}
