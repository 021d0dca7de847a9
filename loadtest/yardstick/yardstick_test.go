// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package yardstick

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rig"
	"gitlab.com/ampora/ampora/loadtest/swarm"
)

// TestServer: every message is answered, a configuration reaches everybody, and the
// figures say so.
func TestServer(t *testing.T) {
	const agents = 5
	server, certificate, err := New()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	control := httptest.NewServer(server.Control())
	t.Cleanup(control.Close)
	t.Cleanup(func() { _ = server.https.Close() })

	roots := x509.NewCertPool()
	roots.AddCert(certificate)
	offered := make(chan []byte, agents)
	made, err := swarm.New(swarm.Config{
		Target: swarm.Target{Addresses: []string{listener.Addr().String()}, Roots: roots}, Transport: swarm.WebSocket, Heartbeat: time.Hour, Dials: agents,
		OnOffer: func(_ int, hash []byte, _ time.Time) { offered <- hash },
	}, identities(t, agents))
	if err != nil {
		t.Fatal(err)
	}
	made.Start()
	t.Cleanup(made.Stop)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := made.Connected(ctx); err != nil {
		t.Fatal(err)
	}

	if answer := post(t, control.URL+"/push?hash=abcd"); !strings.HasPrefix(answer, fmt.Sprintf("%d ", agents)) {
		t.Errorf("the fan-out says %q", answer)
	}
	for range agents {
		select {
		case hash := <-offered:
			if string(hash) != "\xab\xcd" {
				t.Errorf("the hash is %x", hash)
			}
		case <-ctx.Done():
			t.Fatal("somebody was offered nothing")
		}
	}
	if answer := post(t, control.URL+"/push?hash=x"); !strings.Contains(answer, "hexadecimal") {
		t.Errorf("a bad hash is answered %q", answer)
	}
	if err := made.Calm(ctx); err != nil { // they report on it, and are answered
		t.Fatal(err)
	}
	response, err := http.Get(control.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	for _, want := range []string{"yardstick_connections 5\n", fmt.Sprintf("yardstick_messages_total %d\n", made.Count().Answers.Load()-agents), "go_memstats_stack_inuse_bytes "} {
		if err != nil || !strings.Contains(string(text), want) {
			t.Errorf("no %q in the figures, %v:\n%s", want, err, text)
		}
	}
}

func post(t *testing.T, url string) string {
	t.Helper()
	response, err := http.Post(url, "text/yaml", strings.NewReader("receivers: {}\n")) //nolint:gosec // a server of the test
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func identities(t *testing.T, count int) []swarm.Identity {
	t.Helper()
	file, err := swarm.OpenIdentities(filepath.Join(t.TempDir(), "identities"))
	if err != nil {
		t.Fatal(err)
	}
	authority := rig.NewAuthority(t)
	for i := range count {
		name, _ := url.Parse(fmt.Sprintf("spiffe://test/tenant/default/agent/agent-%d", i)) // it is one
		leaf := &x509.Certificate{SerialNumber: big.NewInt(int64(i)), URIs: []*url.URL{name}}
		if err := file.Add(authority.Agent(t, leaf, time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
	}
	return file.List()
}
