// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
	"gitlab.com/ampora/ampora/gateway/internal/relay"
)

func TestAPanicEndsOneConnection(t *testing.T) {
	server := &Server{Config: Config{Log: slog.New(slog.DiscardHandler), Clock: func() time.Time { panic("a mistake of ours") }}}
	ours, theirs := net.Pipe()
	t.Cleanup(func() { _ = ours.Close(); _ = theirs.Close() })
	end := server.converse(t.Context(), &socket{conn: ours}, edge.Caller{})
	if end.code != ws.StatusInternalServerError {
		t.Errorf("the connection ends with %+v", end)
	}
}

func TestAnEffectiveConfigurationHasOnlySoManyFiles(t *testing.T) {
	entries := map[string]*protobufs.AgentConfigObject{}
	for n := range maxEntries + 1 {
		entries[fmt.Sprint(n)] = &protobufs.AgentConfigObject{Body: []byte("x")}
	}
	message := &protobufs.AgentToServer{EffectiveConfig: &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{ConfigMap: entries}}}
	if _, err := cut(message); !errors.Is(err, relay.ErrTooLarge) {
		t.Errorf("cut: %v", err)
	}
	delete(entries, "0")
	if cuttings, err := cut(message); err != nil || len(cuttings) != maxEntries {
		t.Errorf("cut: %d cuttings, %v", len(cuttings), err)
	}
}
