// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Bounds of what is taken from one message. The frame limit bounds the whole; these bound what multiplies.
const (
	maxDepth  = 16
	maxLabels = 64
	maxLabel  = 256
	// maxWords bounds an error message: it is repeated in events, in the ledger and in the rows that lists of agents show.
	// The message as received stays in the part's raw bytes.
	maxWords = 4096
)

// CapabilityNames names the bits an agent set, by OpAMP's own constants; a bit without a name is "bit N".
func CapabilityNames(bits uint64) []string {
	var names []string
	for n := range 64 {
		bit := uint64(1) << n
		if bits&bit == 0 {
			continue
		}
		name := ""
		if n < 31 {
			name = protobufs.AgentCapabilities_name[int32(bit)]
		}
		if name == "" {
			name = fmt.Sprintf("bit %d", n)
		}
		names = append(names, strings.TrimPrefix(name, "AgentCapabilities_"))
	}
	return names
}

// CapabilityNamed is the bit of the name that CapabilityNames gives it, if it has one of OpAMP's.
func CapabilityNamed(name string) (fleet.Capabilities, bool) {
	bit, known := protobufs.AgentCapabilities_value["AgentCapabilities_"+name]
	return fleet.Capabilities(bit), known && bit > 0 //nolint:gosec // constants, and none is negative
}

// Labels are the description's scalar attributes as text, identifying ones winning: what agents are searched by.
// Values longer than a label are left out, not cut: half a value would match wrongly.
func Labels(d fleet.Description) map[string]string {
	labels := map[string]string{}
	for _, list := range [][]fleet.Attribute{d.Identifying, d.NonIdentifying} {
		for _, a := range list {
			text, ok := scalar(a.Value)
			if _, taken := labels[a.Key]; taken || !ok || a.Key == "" || len(a.Key) > maxLabel || len(text) > maxLabel || len(labels) >= maxLabels {
				continue
			}
			labels[a.Key] = text
		}
	}
	return labels
}

func scalar(value json.RawMessage) (string, bool) {
	var v any
	if json.Unmarshal(value, &v) != nil {
		return "", false
	}
	switch v := v.(type) {
	case string:
		return v, true
	case bool, float64:
		return string(value), true
	default:
		return "", false
	}
}

func attributes(list []*protobufs.KeyValue) []fleet.Attribute {
	out := make([]fleet.Attribute, 0, len(list))
	for _, kv := range list {
		value, err := json.Marshal(anyValue(kv.GetValue(), 0))
		if err != nil {
			continue
		}
		out = append(out, fleet.Attribute{Key: clean(kv.GetKey()), Value: value})
	}
	return out
}

// anyValue is an OpAMP AnyValue as a JSON value. 64-bit integers beyond what JSON readers keep exactly, and floats that
// JSON cannot say, become text.
func anyValue(v *protobufs.AnyValue, depth int) any {
	if depth > maxDepth {
		return nil
	}
	switch v := v.GetValue().(type) {
	case *protobufs.AnyValue_StringValue:
		return clean(v.StringValue)
	case *protobufs.AnyValue_BoolValue:
		return v.BoolValue
	case *protobufs.AnyValue_IntValue:
		return integer(v.IntValue)
	case *protobufs.AnyValue_DoubleValue:
		return float(v.DoubleValue)
	case *protobufs.AnyValue_BytesValue:
		return map[string]any{"$bytes": v.BytesValue}
	case *protobufs.AnyValue_ArrayValue:
		list := make([]any, 0, len(v.ArrayValue.GetValues()))
		for _, e := range v.ArrayValue.GetValues() {
			list = append(list, anyValue(e, depth+1))
		}
		return list
	case *protobufs.AnyValue_KvlistValue:
		object := make(map[string]any, len(v.KvlistValue.GetValues()))
		for _, e := range v.KvlistValue.GetValues() {
			object[clean(e.GetKey())] = anyValue(e.GetValue(), depth+1)
		}
		return object
	default:
		return nil
	}
}

func integer(n int64) any {
	const exact = 1 << 53
	if n > exact || n < -exact {
		return strconv.FormatInt(n, 10)
	}
	return n
}

func float(f float64) any {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return f
}

func health(h *protobufs.ComponentHealth, depth int) fleet.Health {
	out := fleet.Health{
		Healthy: h.GetHealthy(), Status: words(h.GetStatus()), LastError: words(h.GetLastError()),
		StartTime: nano(h.GetStartTimeUnixNano()), StatusTime: nano(h.GetStatusTimeUnixNano()),
	}
	if len(h.GetComponentHealthMap()) > 0 && depth < maxDepth {
		out.Components = make(map[string]fleet.Health, len(h.GetComponentHealthMap()))
		for name, c := range h.GetComponentHealthMap() {
			out.Components[clean(name)] = health(c, depth+1)
		}
	}
	return out
}

// components flattens the map of kinds (receivers, processors, …) into a sorted list.
func components(kinds map[string]*protobufs.ComponentDetails) []fleet.Component {
	var list []fleet.Component
	for kind, details := range kinds {
		for name, c := range details.GetSubComponentMap() {
			module := ""
			for _, kv := range c.GetMetadata() {
				if kv.GetKey() == "code.namespace" {
					module = kv.GetValue().GetStringValue()
				}
			}
			list = append(list, fleet.Component{Kind: strings.TrimSuffix(clean(kind), "s"), Name: clean(name), Module: clean(module)})
		}
	}
	slices.SortFunc(list, func(a, b fleet.Component) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Module, b.Module))
	})
	return list
}

// configState maps RemoteConfigStatuses and ConnectionSettingsStatuses, whose numbers are the same.
func configState(status int32) fleet.ConfigState {
	switch protobufs.RemoteConfigStatuses(status) {
	case protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLIED:
		return fleet.ConfigApplied
	case protobufs.RemoteConfigStatuses_RemoteConfigStatuses_APPLYING:
		return fleet.ConfigApplying
	case protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED:
		return fleet.ConfigFailed
	default:
		return fleet.ConfigUnset
	}
}

func nano(n uint64) time.Time {
	if n == 0 || n > math.MaxInt64 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC()
}

// clean makes text of an agent fit to be stored: valid UTF-8 without the NUL that PostgreSQL's text cannot hold.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// words is what an agent says to people: clean, and cut where it goes on too long.
func words(s string) string {
	if len(s) > maxWords {
		s = strings.ToValidUTF8(s[:maxWords], "") + "…"
	}
	return clean(s)
}
