// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package kmstest

import (
	"cmp"
	_ "embed" // the C of the layer
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/control/internal/pki/kms"
)

// layer is a PKCS #11 module around SoftHSM that is slow or broken on demand.
//
//go:embed testdata/layer.c
var layer []byte

// PIN of the tokens.
const PIN = "271828"

// hsm is the SoftHSM of this process: it reads its configuration once.
var hsm struct {
	once    sync.Once
	folder  string
	module  string
	trouble string
	tokens  atomic.Int32
	err     error
}

// Main runs the tests of a package that uses SoftHSM, and cleans up after them.
func Main(m *testing.M) int {
	code := m.Run()
	if hsm.folder != "" {
		_ = os.RemoveAll(hsm.folder)
	}
	return code
}

// SoftHSM starts a token. Tests with tokens do not run in parallel: they share the library's trouble.
func SoftHSM(t testing.TB, drivers []kms.Driver) Backend {
	t.Helper()
	hsm.once.Do(func() { hsm.err = prepare() })
	if hsm.err != nil {
		t.Fatal(hsm.err)
	}
	label := fmt.Sprintf("ampora-%d", hsm.tokens.Add(1))
	if out, err := exec.CommandContext(t.Context(), util(), "--init-token", "--free", "--label", label, "--so-pin", "00000000", "--pin", PIN).CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v: %s", err, out)
	}
	pin := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(pin, []byte(PIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	b := Backend{
		Driver: driver(t, drivers, "pkcs11"), Missing: "pkcs11:id=00ff;object=nobody",
		URI: "pkcs11:module-path=" + hsm.module + ";token=" + label + ";pin-source=" + pin,
		Away: func(away bool) {
			trouble(t, map[bool]string{true: "0 away", false: "0 fine"}[away])
		},
		Slow: func(by time.Duration) { trouble(t, fmt.Sprintf("%d fine", by.Milliseconds())) },
	}
	b.Away(false)
	return b
}

func util() string { return cmp.Or(os.Getenv("SOFTHSM2_UTIL"), "softhsm2-util") }

// trouble tells the layer what to do from now on.
func trouble(t testing.TB, what string) {
	t.Helper()
	if err := os.WriteFile(hsm.trouble+".new", []byte(what), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(hsm.trouble+".new", hsm.trouble); err != nil {
		t.Fatal(err)
	}
}

// prepare configures SoftHSM and compiles the layer around it.
func prepare() error {
	if _, err := exec.LookPath(util()); err != nil {
		return fmt.Errorf("SoftHSM is missing: infra/dev/tools.sh softhsm2: %w", err)
	}
	library, err := library()
	if err != nil {
		return err
	}
	if hsm.folder, err = os.MkdirTemp("", "ampora-softhsm-"); err != nil {
		return err
	}
	tokens, config := filepath.Join(hsm.folder, "tokens"), filepath.Join(hsm.folder, "softhsm2.conf")
	hsm.module, hsm.trouble = filepath.Join(hsm.folder, "layer.so"), filepath.Join(hsm.folder, "trouble")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(config, []byte("directories.tokendir = "+tokens+"\nobjectstore.backend = file\nlog.level = ERROR\n"), 0o600); err != nil {
		return err
	}
	if err := os.Setenv("SOFTHSM2_CONF", config); err != nil { // the library's, not this test's alone
		return err
	}
	return compile(library)
}

// compile builds the layer with the headers that the Go binding of PKCS #11 comes with.
func compile(library string) error {
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		return fmt.Errorf("the headers of PKCS #11: %w", err)
	}
	source := filepath.Join(hsm.folder, "layer.c")
	if err := os.WriteFile(source, layer, 0o600); err != nil {
		return err
	}
	out, err := exec.Command(cmp.Or(os.Getenv("CC"), "cc"), "-shared", "-fPIC", "-O1", "-I", strings.TrimSpace(string(headers)), //nolint:gosec // the compiler that the caller says
		"-DREAL=\""+library+"\"", "-DTROUBLE=\""+hsm.trouble+"\"", "-o", hsm.module, source, "-ldl").CombinedOutput()
	if err != nil {
		return fmt.Errorf("compile the layer around SoftHSM: %w: %s", err, out)
	}
	return nil
}

// library finds SoftHSM where distributions put it.
func library() (string, error) {
	places := []string{
		os.Getenv("SOFTHSM2_LIB"), "/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so", "/usr/lib64/libsofthsm2.so",
		"/usr/local/lib/softhsm/libsofthsm2.so", "/opt/homebrew/lib/softhsm/libsofthsm2.so",
	}
	for _, place := range places {
		if _, err := os.Stat(place); place != "" && err == nil { //nolint:gosec // where the caller says it is
			return place, nil
		}
	}
	return "", fmt.Errorf("no libsofthsm2.so where it usually is: set SOFTHSM2_LIB")
}

func driver(t testing.TB, drivers []kms.Driver, scheme string) kms.Driver {
	t.Helper()
	for _, d := range drivers {
		if d.Scheme == scheme {
			return d
		}
	}
	t.Fatalf("the tests are built without %s: they need cgo", scheme)
	return kms.Driver{}
}
