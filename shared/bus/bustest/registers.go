// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bustest

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
)

func set(t testing.TB, b bus.Registers, shelf bus.Shelf, ttl time.Duration, name, value string) {
	t.Helper()
	if err := b.Set(within(t), shelf, ttl, bus.Register{Name: name, Value: []byte(value)}); err != nil {
		t.Fatalf("Set: %v", err)
	}
}

// wantRegisters reads names of a shelf; "-" stands for an absent one.
func wantRegisters(t testing.TB, b bus.Registers, shelf bus.Shelf, names []string, want ...string) {
	t.Helper()
	values, err := b.Get(within(t), shelf, names...)
	if err != nil {
		t.Fatalf("Get: %v", err)
	}
	got := make([]string, len(values))
	for i, value := range values {
		got[i] = string(value)
		if value == nil {
			got[i] = "-"
		}
	}
	wantTexts(t, got, want...)
}

func setAndGet(t *testing.T, h Harness) {
	names := []string{"a", "b", "c"}
	wantRegisters(t, h.Bus, bus.Polls, names, "-", "-", "-")
	set(t, h.Bus, bus.Polls, time.Hour, "a", "1")
	set(t, h.Bus, bus.Polls, time.Hour, "b", "")
	set(t, h.Bus, bus.Mail, time.Hour, "c", "of another shelf")
	set(t, h.Bus, bus.Marks("one"), time.Hour, "c", "of a gateway")
	wantRegisters(t, h.Bus, bus.Polls, names, "1", "", "-")
	wantRegisters(t, h.Bus, bus.Marks("one"), []string{"c", "a"}, "of a gateway", "-")
	wantRegisters(t, h.Bus, bus.Marks("other"), []string{"c"}, "-")
	set(t, h.Bus, bus.Polls, time.Hour, "a", "2")
	wantRegisters(t, h.Bus, bus.Polls, []string{"b", "a", "a"}, "", "2", "2")
	wantRegisters(t, h.Bus, bus.Polls, nil)
	if err := h.Bus.Set(within(t), bus.Polls, time.Hour); err != nil {
		t.Fatalf("setting nothing: %v", err)
	}
}

func registersExpire(t *testing.T, h Harness) {
	set(t, h.Bus, bus.Mail, time.Second, "short", "x")
	set(t, h.Bus, bus.Mail, time.Hour, "long", "y")
	set(t, h.Bus, bus.Mail, time.Second, "prolonged", "z")
	set(t, h.Bus, bus.Mail, time.Hour, "prolonged", "z")
	h.Advance(1500 * time.Millisecond)
	wantRegisters(t, h.Bus, bus.Mail, []string{"short", "long", "prolonged"}, "-", "y", "z")
}

func registerBounds(t *testing.T, h Harness) {
	b, fine := h.Bus, bus.Register{Name: "fine", Value: []byte("x")}
	wantError(t, b.Set(within(t), bus.Mail, time.Hour, fine, bus.Register{Name: "large", Value: make([]byte, bus.MaxRegister+1)}), bus.ErrTooLarge)
	for _, name := range []string{"", " ", "a b", "\x00", "é", strings.Repeat("n", 201)} {
		wantError(t, b.Set(within(t), bus.Mail, time.Hour, fine, bus.Register{Name: name}), bus.ErrInvalid)
		_, err := b.Get(within(t), bus.Mail, "fine", name)
		wantError(t, err, bus.ErrInvalid)
	}
	wantError(t, b.Set(within(t), "", time.Hour, fine), bus.ErrInvalid)
	wantError(t, b.Set(within(t), bus.Mail, 0, fine), bus.ErrInvalid)
	wantRegisters(t, b, bus.Mail, []string{"fine"}, "-") // nothing of a refused call was set

	longest, largest := strings.Repeat("n", 200), bytes.Repeat([]byte{0}, bus.MaxRegister)
	if err := b.Set(within(t), bus.Mail, time.Hour, bus.Register{Name: longest, Value: largest}); err != nil {
		t.Fatalf("a name and a value of exactly the bounds: %v", err)
	}
	wantRegisters(t, b, bus.Mail, []string{longest}, string(largest))
}

func registersAfterTheirEnd(t *testing.T, h Harness) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	wantError(t, h.Bus.Set(ended, bus.Mail, time.Hour, bus.Register{Name: "a"}), context.Canceled)
	_, err := h.Bus.Get(ended, bus.Mail, "a")
	wantError(t, err, context.Canceled)
	if err := h.Bus.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
	wantError(t, h.Bus.Set(within(t), bus.Mail, time.Hour, bus.Register{Name: "a"}), bus.ErrClosed)
	_, err = h.Bus.Get(within(t), bus.Mail, "a")
	wantError(t, err, bus.ErrClosed)
}
