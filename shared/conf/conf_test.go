// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package conf_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/conf"
)

// key is a secret with a parser of its own, whose errors tell too much.
type key []byte

func (k *key) UnmarshalText(text []byte) (err error) {
	if *k, err = base64.StdEncoding.DecodeString(string(text)); err != nil {
		return fmt.Errorf("cannot decode %q: %w", text, err)
	}
	return nil
}

type program struct {
	Addr     string        `env:"AMPORA_HTTP_ADDR" envDefault:"127.0.0.1:8080" help:"Where the API listens."`
	Timeout  time.Duration `env:"AMPORA_TIMEOUT" envDefault:"30s" help:"How long a request may take."`
	Limit    int           `env:"AMPORA_LIMIT"`
	Level    slog.Level    `env:"AMPORA_LOG_LEVEL" envDefault:"INFO"`
	Origins  []string      `env:"AMPORA_ORIGINS"`
	Domain   string        `env:"AMPORA_TRUST_DOMAIN,required" help:"Fixed at first start."`
	Database conf.Secret   `env:"AMPORA_DATABASE_URL,required" help:"postgres://… or sqlite:<path>."`
	Key      key           `env:"AMPORA_MASTER_KEY" secret:"true"`
	Ops      struct {
		Addr string `env:"ADDR" envDefault:"127.0.0.1:9090"`
	} `envPrefix:"AMPORA_OPS_"`
	notRead string //nolint:unused // what a program keeps beside its variables must not disturb
}

// enough is what the program cannot do without.
func enough(more ...string) []string {
	return append([]string{"PATH=/bin", "AMPORA_TRUST_DOMAIN=example.org", "AMPORA_DATABASE_URL=sqlite:x"}, more...)
}

func TestLoad(t *testing.T) {
	got, notes, err := conf.Load[program](enough(
		"AMPORA_TIMEOUT=5m", "AMPORA_LIMIT=7", "AMPORA_LOG_LEVEL=warn", "AMPORA_ORIGINS=a,b", "AMPORA_OPS_ADDR=:1",
		"AMPORA_MASTER_KEY=c2VjcmV0", "AMPORA_HTTP_ADDR=", "AMPORA_LIMIT=8"))
	if err != nil || len(notes) != 0 {
		t.Fatalf("Load = %v, %v", notes, err)
	}
	want := program{
		Addr: "127.0.0.1:8080", Timeout: 5 * time.Minute, Limit: 7, Level: slog.LevelWarn, Origins: []string{"a", "b"},
		Domain: "example.org", Database: conf.NewSecret("sqlite:x"), Key: key("secret"),
	}
	want.Ops.Addr = ":1"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Load = %+v, want %+v", got, want)
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	_, _, err := conf.Load[program]([]string{
		"AMPORA_TIMEOUT=soon", "AMPORA_LIMIT=" + strings.Repeat("9", 200), "AMPORA_LOG_LEVEL=loud", "AMPORA_HTPP_ADDR=:80",
		"AMPORA_OPS_ADR=:80", "AMPORA_MASTER_KEYFILE=x", "OTHER_HTPP_ADDR=x", "AMPORA_DATABASE_URL=",
	})
	var wrong *conf.Error
	if !errors.As(err, &wrong) {
		t.Fatalf("Load = %v, want a conf.Error", err)
	}
	want := []string{
		`AMPORA_TIMEOUT is "soon", want a duration such as 30s`,
		`AMPORA_LIMIT is "` + strings.Repeat("9", 100) + `…", want a whole number`,
		`AMPORA_LOG_LEVEL is "loud": slog: level string "loud": unknown name`,
		`AMPORA_TRUST_DOMAIN is required and not set`,
		`AMPORA_DATABASE_URL is required and not set, nor is AMPORA_DATABASE_URL_FILE`,
		`AMPORA_HTPP_ADDR is not a variable of this program; did you mean AMPORA_HTTP_ADDR?`,
		`AMPORA_MASTER_KEYFILE is not a variable of this program; did you mean AMPORA_MASTER_KEY_FILE?`,
		`AMPORA_OPS_ADR is not a variable of this program; did you mean AMPORA_OPS_ADDR?`,
	}
	if !slices.Equal(wrong.Problems, want) {
		t.Errorf("the problems are\n%s\nwant\n%s", strings.Join(wrong.Problems, "\n"), strings.Join(want, "\n"))
	}
	if text := err.Error(); !strings.Contains(text, "8 places") || !strings.Contains(text, want[7]) {
		t.Errorf("the error does not tell all: %s", text)
	}
}

func TestVariablesOfOtherProgramsAreNoted(t *testing.T) {
	_, notes, err := conf.Load[program](enough("AMPORA_NOTHING_LIKE_IT=x", "AMPORA_TRUSTED_DOMAINS=x"))
	want := []string{
		"AMPORA_NOTHING_LIKE_IT is not a variable of this program and is ignored",
		"AMPORA_TRUSTED_DOMAINS is not a variable of this program and is ignored; did you mean AMPORA_TRUST_DOMAIN?",
	}
	if err != nil || !slices.Equal(notes, want) {
		t.Errorf("Load noted %q, %v, want %q", notes, err, want)
	}
}

func TestServiceLinksAreNotMisspelt(t *testing.T) {
	_, _, err := conf.Load[program](enough(
		"AMPORA_SERVICE_HOST=10.0.0.1", "AMPORA_CONTROL_SERVICE_PORT=8080", "AMPORA_CONTROL_SERVICE_PORT_INTERNAL_TLS=1",
		"AMPORA_PORT=tcp://10.0.0.1:80", "AMPORA_GATEWAY_PORT_4320_TCP_ADDR=10.0.0.1", "AMPORA_GATEWAY_PORT_4320_TCP=tcp://10.0.0.1:4320"))
	if err != nil {
		t.Error(err)
	}
}

func TestSecretFiles(t *testing.T) {
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil { // whatever the umask
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct{ text, want string }{
		"as is":       {"hunter2", "hunter2"},
		"newline":     {"hunter2\n", "hunter2"},
		"dos newline": {"hunter2\r\n", "hunter2"},
		"only one":    {" hunter2 \n\n", " hunter2 \n"},
	} {
		got, notes, err := conf.Load[program]([]string{"AMPORA_TRUST_DOMAIN=x", "AMPORA_DATABASE_URL_FILE=" + write("secret", c.text, 0o640)})
		if err != nil || len(notes) != 0 || got.Database.Reveal() != c.want {
			t.Errorf("%s: %q, %v, %v, want %q", name, got.Database.Reveal(), notes, err, c.want)
		}
	}

	public := write("public", "hunter2", 0o644)
	_, notes, err := conf.Load[program]([]string{"AMPORA_TRUST_DOMAIN=x", "AMPORA_DATABASE_URL_FILE=" + public})
	if err != nil || len(notes) != 1 || !strings.Contains(notes[0], "every user") {
		t.Errorf("a public file: %v, %v", notes, err)
	}

	for want, environ := range map[string][]string{
		"AMPORA_DATABASE_URL and AMPORA_DATABASE_URL_FILE are both set": enough("AMPORA_DATABASE_URL_FILE=" + public),
		"AMPORA_MASTER_KEY_FILE cannot be read":                         enough("AMPORA_MASTER_KEY_FILE=/does/not/exist"),
		"which is empty":                                                enough("AMPORA_MASTER_KEY_FILE=" + write("empty", "\n", 0o600)),
		"has more than":                                                 enough("AMPORA_MASTER_KEY_FILE=" + write("long", strings.Repeat("a", 1<<17), 0o600)),
		"AMPORA_HTTP_ADDR_FILE is not a variable":                       enough("AMPORA_HTTP_ADDR_FILE=x"), // no secret
	} {
		if _, _, err := conf.Load[program](environ); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load = %v, want %q", err, want)
		}
	}
}

func TestSecretsNeverShow(t *testing.T) {
	const secret = "hunter2!"
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for _, environ := range [][]string{
		enough("AMPORA_MASTER_KEY=" + secret),
		enough("AMPORA_MASTER_KEY_FILE=" + path),
		enough("AMPORA_MASTER_KEY="+secret, "AMPORA_MASTER_KEY_FILE="+path),
		enough("AMPORA_MASTER_KEE=" + secret),
		{"AMPORA_DATABASE_URL=" + secret},
	} {
		loaded, notes, err := conf.Load[program](environ)
		if err == nil {
			t.Errorf("%v was accepted", environ)
		}
		fmt.Fprintf(&out, "%v %+v %#v %v", err, err, loaded, notes)
	}
	if !strings.Contains(out.String(), "AMPORA_MASTER_KEY is not a key (its value is not shown)") {
		t.Errorf("the problem is not told: %s", out.String())
	}

	loaded, _, err := conf.Load[program]([]string{"AMPORA_TRUST_DOMAIN=x", "AMPORA_DATABASE_URL=" + secret})
	if err != nil || loaded.Database.Reveal() != secret {
		t.Fatalf("Load = %v", err)
	}
	type enclosing struct{ hidden program }
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb, loaded)
		fmt.Fprintf(&out, verb, loaded.Database)
		fmt.Fprintf(&out, verb, enclosing{loaded})
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "conf", loaded, "secret", loaded.Database)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "conf", loaded, "secret", loaded.Database)
	if err := json.NewEncoder(&out).Encode(loaded); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); strings.Contains(text, secret) || strings.Contains(text, fmt.Sprintf("%x", secret)) {
		t.Errorf("a secret shows: %s", text)
	}
}

type validated struct {
	Low  int `env:"AMPORA_LOW" envDefault:"1"`
	High int `env:"AMPORA_HIGH" envDefault:"2"`
}

func (v *validated) Validate() error {
	var problems []error
	if v.Low > v.High {
		problems = append(problems, errors.New("AMPORA_LOW is above AMPORA_HIGH"))
	}
	if v.High > 100 {
		problems = append(problems, errors.New("AMPORA_HIGH is above 100"))
	}
	return errors.Join(problems...)
}

func TestValidate(t *testing.T) {
	for _, c := range []struct {
		environ []string
		want    []string
	}{
		{nil, nil},
		{[]string{"AMPORA_LOW=3"}, []string{"AMPORA_LOW is above AMPORA_HIGH"}},
		{[]string{"AMPORA_LOW=300", "AMPORA_HIGH=200", "AMPORA_HUGH=1"}, []string{
			"AMPORA_LOW is above AMPORA_HIGH", "AMPORA_HIGH is above 100",
			"AMPORA_HUGH is not a variable of this program; did you mean AMPORA_HIGH?",
		}},
		// What could not be read contradicts nothing.
		{[]string{"AMPORA_LOW=300", "AMPORA_HIGH=x"}, []string{`AMPORA_HIGH is "x", want a whole number`}},
	} {
		_, _, err := conf.Load[validated](c.environ)
		var wrong *conf.Error
		if errors.As(err, &wrong) != (c.want != nil) || wrong != nil && !slices.Equal(wrong.Problems, c.want) {
			t.Errorf("%v: %v, want %q", c.environ, err, c.want)
		}
	}
}

func TestUsage(t *testing.T) {
	want := `AMPORA_HTTP_ADDR
    text; default 127.0.0.1:8080
    Where the API listens.
AMPORA_TIMEOUT
    a duration such as 30s; default 30s
    How long a request may take.
AMPORA_LIMIT
    a whole number
AMPORA_LOG_LEVEL
    a level; default INFO
AMPORA_ORIGINS
    a list, separated by commas
AMPORA_TRUST_DOMAIN
    text; required
    Fixed at first start.
AMPORA_DATABASE_URL
    text; secret, may be in a file named by AMPORA_DATABASE_URL_FILE; required
    postgres://… or sqlite:<path>.
AMPORA_MASTER_KEY
    a key; secret, may be in a file named by AMPORA_MASTER_KEY_FILE
AMPORA_OPS_ADDR
    text; default 127.0.0.1:9090
`
	if got := conf.Usage[program](); got != want {
		t.Errorf("Usage() =\n%s\nwant\n%s", got, want)
	}
}

func TestMistakesOfTheProgramPanic(t *testing.T) {
	type twice struct {
		A conf.Secret `env:"AMPORA_A"`
		B string      `env:"AMPORA_A_FILE"`
	}
	type foreign struct {
		Path string `env:"PATH"`
	}
	type unreadable struct {
		C chan int `env:"AMPORA_C"`
	}
	for name, load := range map[string]func(){
		"twice":     func() { _, _, _ = conf.Load[twice](nil) },
		"foreign":   func() { conf.Usage[foreign]() },
		"no struct": func() { conf.Usage[int]() },
		"no parser": func() { _, _, _ = conf.Load[unreadable]([]string{"AMPORA_C=x"}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			load()
		}()
	}
}
