// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/bus"
)

// raw is a client that says what it likes, as a compromised program would.
func raw(t *testing.T, url string) *goredis.Client {
	t.Helper()
	options, err := clientOptions(url, Options{})
	if err != nil {
		t.Fatal(err)
	}
	client := goredis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// wantForbidden tries commands, one a line, of which {} is the prefix.
func wantForbidden(t *testing.T, client *goredis.Client, prefix string, commands []string) {
	t.Helper()
	for _, command := range commands {
		var arguments []any
		for _, argument := range strings.Fields(strings.ReplaceAll(command, "{}", prefix)) {
			arguments = append(arguments, argument)
		}
		if err := client.Do(context.Background(), arguments...).Err(); err == nil || !hasPrefix(err, "NOPERM") {
			t.Errorf("%s: %v, want NOPERM", command, err)
		}
	}
}

func TestGatewayIsConfined(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	b := install(t, l, s)
	publish(t, b, 3, "secret")
	sendTexts(t, b, "one", "secret")
	wantForbidden(t, raw(t, l.url(b.prefix+userOf("other"))), b.prefix, []string{
		// Uplinks, of which it may append to all.
		"XRANGE {}:up:3 - +", "XREVRANGE {}:up:3 + -", "XREAD STREAMS {}:up:3 0", "XINFO STREAM {}:up:3", "XTRIM {}:up:3 MAXLEN 0",
		"XDEL {}:up:3 1-1", "XSETID {}:up:3 9-9", "DEL {}:up:3", "UNLINK {}:up:3", "EXPIRE {}:up:3 1", "DUMP {}:up:3",
		"COPY {}:up:3 {}:down:other", "RENAME {}:up:3 {}:polls:x", "XGROUP CREATE {}:up:3 g 0", "SET {}:up:3 x", "SUBSCRIBE {}:up",
		// Downlinks, of which it may read its own.
		"XRANGE {}:down:one - +", "XADD {}:down:one * a b", "XTRIM {}:down:one MAXLEN 0", "DEL {}:down:one", "XINFO STREAM {}:down:one",
		"XLEN {}:down:one", "PEXPIRE {}:down:one 1", "SUBSCRIBE {}:down:one", "PUBLISH {}:down:one x", "PSUBSCRIBE *",
		// Registers.
		"SET {}:marks:one:a x", "GET {}:marks:one:a", "MGET {}:marks:one:a", "SET {}:mail:a x", "DEL {}:polls:a", "KEYS *", "SCAN 0",
		"MGET {}:polls:a {}:marks:one:a",
		// The server.
		"FLUSHALL", "FLUSHDB", "CONFIG GET *", "CONFIG SET maxmemory 1", "EVAL return 0", "FUNCTION LIST", "ACL LIST", "ACL WHOAMI",
		"CLIENT LIST", "CLIENT KILL TYPE normal", "MONITOR", "SHUTDOWN", "REPLICAOF NO ONE", "SAVE", "SWAPDB 0 1", "SELECT 1",
	})
}

func TestControlIsConfined(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	b := install(t, l, s)
	wantForbidden(t, raw(t, l.url(b.prefix+controlUser)), b.prefix, []string{
		"XADD other:up:3 * a b", "XRANGE other:up:3 - +", "SET {}:marks:one:a x", "SET {}:polls:a x", "MGET other:mail:a",
		"DEL {}:down:one", "SUBSCRIBE {}:down:one", "PUBLISH {}:up x", "KEYS *", "FLUSHALL", "CONFIG GET *", "EVAL return 0", "ACL LIST", "SHUTDOWN",
	})
}

// What the bus says to a user that may not do what is asked of it.
func TestForbidden(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	b := install(t, l, s)
	one, other := b.gateway("one"), startDownlinks(t, b, "other")
	_, readErr := one.Read(within(t), 0, "", 1)
	_, receiveErr := one.Receive(within(t), "other", other, 1)
	_, getErr := b.control.Get(within(t), bus.Marks("one"), "a")
	if getErr != nil {
		t.Error(getErr)
	}
	_, getErr = one.Get(within(t), bus.Marks("other"), "a")
	for name, err := range map[string]error{
		"Read": readErr, "Receive": receiveErr, "Get": getErr,
		"Trim":    one.Trim(within(t), 0, "1.1.1"),
		"Publish": b.control.Publish(within(t), bus.Outgoing{}),
		"Send":    one.Send(within(t), "other", time.Hour, nil),
		"Set":     one.Set(within(t), bus.Marks("other"), time.Hour, bus.Register{Name: "a"}),
	} {
		if !errors.Is(err, ErrForbidden) {
			t.Errorf("%s: %v, want %v", name, err, ErrForbidden)
		}
	}
	for name, url := range map[string]string{
		"without a user":      l.url(""),
		"a wrong password":    strings.ReplaceAll(l.url(b.prefix+controlUser), "tell", "told"),
		"a user who is not":   l.url("nobody"),
		"that of the default": strings.Replace(l.url(b.prefix+controlUser), b.prefix+controlUser, "", 1),
	} {
		s.do("ACL", "SETUSER", "default", ">something", "resetkeys")
		err := open(t, url, b.prefix).Check(within(t))
		if !errors.Is(err, ErrForbidden) || strings.Contains(err.Error(), "n0b") {
			t.Errorf("%s: %v, want %v", name, err, ErrForbidden)
		}
	}
}

// A user that may read but not listen is told so, instead of being slow for ever.
func TestReaderMayNotListen(t *testing.T) {
	s := startServer(t)
	l := newLink(t, s)
	b := install(t, l, s)
	after := start(t, b.control, 0)
	s.do("ACL", "SETUSER", b.prefix+controlUser, "clearselectors", "+xrange", "+xinfo|stream", "~*")
	if _, err := b.Read(within(t), 0, after, 1); !errors.Is(err, ErrForbidden) {
		t.Fatalf("Read: %v, want %v", err, ErrForbidden)
	}
	s.do("ACL", "SETUSER", b.prefix+controlUser, "+subscribe", "allchannels")
	publish(t, b, 0, "a")
	after = wantReads(t, b, 0, after, "a")
	eventually(t, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := b.Read(ctx, 0, after, 1)
		switch {
		case errors.Is(err, ErrForbidden):
			return bus.ErrUnavailable // not yet
		case errors.Is(err, context.DeadlineExceeded):
			return nil
		}
		return err
	})
}

// The rules stand in the operator's guide as they are.
func TestRulesAreDocumented(t *testing.T) {
	guide, err := os.ReadFile("../../../docs/operator/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := GatewayRules("", "GATEWAY")
	if err != nil {
		t.Fatal(err)
	}
	control, err := ControlRules("")
	if err != nil {
		t.Fatal(err)
	}
	for _, rules := range [][]string{gateway, control} {
		var users []string
		for _, rule := range rules {
			if strings.Contains(rule, " ") {
				users = append(users, "'"+rule+"'")
			} else {
				users = append(users, rule)
			}
		}
		if text := strings.Join(users, " "); !strings.Contains(strings.Join(strings.Fields(strings.ReplaceAll(string(guide), "\\\n", "")), " "), text) {
			t.Errorf("docs/operator/redis.md does not have: %s", text)
		}
	}
	if _, err := GatewayRules("a b", "gateway"); err == nil {
		t.Error("rules were made for a prefix that is none")
	}
	if _, err := ControlRules("*"); err == nil {
		t.Error("rules were made for a prefix that is none")
	}
}
