// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"crypto/tls"
	"strings"
	"testing"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// The names are part of access rules that operators have written down.
func TestNamesGolden(t *testing.T) {
	n, err := newNames("")
	if err != nil {
		t.Fatal(err)
	}
	for got, want := range map[string]string{
		n.uplink(7).key:                       "ampora:up:7",
		n.uplink(7).channel:                   "ampora:up",
		n.downlink("gw-1.eu").key:             "ampora:down:gw-1.eu",
		n.downlink("a:b*é ").key:              "ampora:down:a%3Ab%2A%C3%A9%20",
		n.register(bus.Marks("gw"), "x:*"):    "ampora:marks:gw:x:*",
		n.register(bus.Marks("gw:a/b"), "c"):  "ampora:marks:gw%3Aa%2Fb:c",
		n.register(bus.Polls, "tenant/agent"): "ampora:polls:tenant/agent",
		n.register(bus.Mail, "m"):             "ampora:mail:m",
	} {
		if got != want {
			t.Errorf("the name is %q, want %q", got, want)
		}
	}
}

func TestPrefix(t *testing.T) {
	for _, prefix := range []string{"a", "A-b_c.d:e", strings.Repeat("p", 64)} {
		if _, err := newNames(prefix); err != nil {
			t.Errorf("%q: %v", prefix, err)
		}
	}
	for _, prefix := range []string{"a b", "*", "a?", "[a]", "%", "é", "\n", strings.Repeat("p", 65)} {
		if _, err := newNames(prefix); err == nil {
			t.Errorf("%q was taken for a prefix", prefix)
		}
	}
}

func TestURL(t *testing.T) {
	for url, want := range map[string]struct{ address, user, password, name string }{
		"redis://localhost":                         {address: "localhost:6379"},
		"redis://[::1]:7000/":                       {address: "[::1]:7000"},
		"redis://:p%40ss@h/0":                       {address: "h:6379", password: "p@ss"},
		"rediss://user:secret@redis.example.com:80": {"redis.example.com:80", "user", "secret", "redis.example.com"},
	} {
		got, err := clientOptions(url, Options{})
		switch {
		case err != nil:
			t.Errorf("%s: %v", url, err)
		case got.Addr != want.address || got.Username != want.user || got.Password != want.password:
			t.Errorf("%s: %s, user %q, password %q", url, got.Addr, got.Username, got.Password)
		case (got.TLSConfig != nil) != (want.name != "") || want.name != "" && got.TLSConfig.ServerName != want.name:
			t.Errorf("%s: TLS is %+v", url, got.TLSConfig)
		}
	}
}

func TestWrongURL(t *testing.T) {
	withTLS := Options{TLS: &tls.Config{MinVersion: tls.VersionTLS13}}
	for url, options := range map[string]Options{
		"": {}, "redis": {}, "localhost:6379": {}, "http://u:hunter2@h": {}, "redis://": {}, "redis://u:hunter2@:6379": {},
		"redis://u:hunter2@h:port": {}, "redis://u:hunter2@h:0": {}, "redis://u:hunter2@h:70000": {}, "redis://u:hunter2@h/1": {},
		"redis://u:hunter2@h/0?db=1": {}, "redis://u:hunter2@h#x": {}, "redis://u:hunter2%zz@h": {}, "redis://u:hun ter2@h": {}, "redis://hunter2@h": {},
		"redis://h/?": {}, "unix:///tmp/redis": {}, "redis://u:hunter2@h": withTLS, "rediss://u:hunter2@h": {MaxBytes: -1}, "redis://a:hunter2@h": {Prefix: "a b"},
		"redis://b:hunter2@h": {MaxMessages: -1}, "redis://c:hunter2@h": {Connections: -1},
	} {
		_, err := Open(url, options)
		if err == nil {
			t.Errorf("%q was taken for the URL of a bus", url)
		} else if strings.Contains(err.Error(), "hun") {
			t.Errorf("%q: the error quotes it: %v", url, err)
		}
	}
}

func TestTLSOptionsAreKept(t *testing.T) {
	given := &tls.Config{ServerName: "other.example.com", MinVersion: tls.VersionTLS13}
	got, err := clientOptions("rediss://h", Options{TLS: given, Connections: 3})
	if err != nil || got.TLSConfig.ServerName != given.ServerName || got.TLSConfig.MinVersion != tls.VersionTLS13 || got.PoolSize != 3 {
		t.Errorf("the options became %+v, %v", got, err)
	}
	got, err = clientOptions("rediss://h", Options{TLS: &tls.Config{}})
	if err != nil || got.TLSConfig.ServerName != "h" || got.TLSConfig.MinVersion != tls.VersionTLS12 {
		t.Errorf("the options became %+v, %v", got, err)
	}
}

// Whatever a gateway is called, no pattern of its rules covers another's names.
func FuzzEscape(f *testing.F) {
	for _, id := range []string{"", "gw", "a:b", "*", "a%3Ab", "é", "\x00", "[^a]", "/", "a/b"} {
		f.Add(id, "gw")
	}
	f.Fuzz(func(t *testing.T, one, other string) {
		n := names{DefaultPrefix}
		if one != other && n.downlink(identity.GatewayID(one)).key == n.downlink(identity.GatewayID(other)).key {
			t.Errorf("%q and %q have one stream", one, other)
		}
		if strings.ContainsAny(escape(one), "*?[]\\^: ") {
			t.Errorf("%q became %q, which means something in a pattern", one, escape(one))
		}
		a, b := n.shelf(bus.Marks(identity.GatewayID(one))), n.shelf(bus.Marks(identity.GatewayID(other)))
		if one != other && (strings.HasPrefix(a, b) || strings.HasPrefix(b, a)) {
			t.Errorf("the marks of %q and %q are under %q and %q", one, other, a, b)
		}
	})
}
