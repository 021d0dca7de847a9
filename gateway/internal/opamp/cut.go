// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/relay"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
)

// cutting is a large part taken out of a message.
type cutting struct {
	kind relayv1.Body_Kind
	name string
	body []byte
}

// maxEntries bounds the files of one effective configuration: each is stored on its own.
const maxEntries = 256

// cut takes the bodies of the effective configuration and the list of components out
// of a message: they are large, they are the same in report after report, and they
// travel by hash. Hashes, names and unknown fields stay. The error is relay.ErrTooLarge.
func cut(message *protobufs.AgentToServer) ([]cutting, error) {
	var cuttings []cutting
	entries := message.GetEffectiveConfig().GetConfigMap().GetConfigMap()
	if len(entries) > maxEntries {
		return nil, fmt.Errorf("an effective configuration of %d files: %w", len(entries), relay.ErrTooLarge)
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		if body := entries[name].GetBody(); len(body) > 0 {
			cuttings = append(cuttings, cutting{relayv1.Body_KIND_EFFECTIVE_CONFIG, name, body})
			entries[name].Body = nil
		}
	}
	available := message.GetAvailableComponents()
	if len(available.GetComponents()) == 0 {
		return cuttings, nil
	}
	// Sorted, so that equal builds of a collector have equal bodies.
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(&protobufs.AvailableComponents{Components: available.GetComponents()})
	if err != nil {
		return nil, err
	}
	available.Components = nil
	return append(cuttings, cutting{kind: relayv1.Body_KIND_AVAILABLE_COMPONENTS, body: body}), nil
}
