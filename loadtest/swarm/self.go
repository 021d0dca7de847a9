// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// self is everything about an agent that it tells, small enough to be kept by the
// thousand. What it says is rendered from it.
type self struct {
	name      string // of the host it claims to run on
	index     int
	uid       [16]byte
	relabels  int       // how often its labels were changed
	started   time.Time // the process
	changed   time.Time // its health
	sick      string    // what is wrong; "" when it is healthy
	running   *body     // the remote configuration it runs; nil: its own
	lastOffer *body     // the last remote configuration it took up; nil: none
	outcome   protobufs.RemoteConfigStatuses
	words     string // why the last one failed
}

// abilities are those of a supervisor that allows all that a swarm can do.
const abilities = protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsEffectiveConfig |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsRemoteConfig |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsHealth |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsHeartbeat |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsAvailableComponents

// abilities are those of each agent.
func (s *Swarm) abilities() uint64 {
	if s.config.TakesOffers {
		return uint64(abilities | takesOffers)
	}
	return uint64(abilities)
}

// description renders what it says of itself: identity, labels, and values of every type
// that survives in JSON.
func (s *self) description() *protobufs.AgentDescription {
	regions, stages := []string{"eu-west-1", "eu-central-1", "us-east-1", "ap-south-1"}, []string{"prod", "prod", "staging"}
	return &protobufs.AgentDescription{
		IdentifyingAttributes: []*protobufs.KeyValue{
			text("service.name", "otelcol-contrib"),
			text("service.namespace", "swarm"),
			text("service.version", "0.149.0"),
			text("service.instance.id", uidText(s.uid)),
		},
		NonIdentifyingAttributes: []*protobufs.KeyValue{
			text("os.type", "linux"),
			text("os.description", "Debian GNU/Linux 12 (bookworm)"),
			text("host.name", s.name),
			text("host.arch", "amd64"),
			text("host.id", fmt.Sprintf("%032x", s.uid)),
			list("host.ip", fmt.Sprintf("10.%d.%d.%d", s.index>>16&255, s.index>>8&255, s.index&255), "fe80::1"),
			text("region", regions[s.index%len(regions)]),
			text("site", fmt.Sprintf("site-%02d", s.index%40)),
			text("deployment.environment", stages[s.index%len(stages)]),
			text("team", fmt.Sprintf("team-%d", s.index%7)),
			number("process.pid", int64(1000+s.index)),
			number("swarm.relabels", int64(s.relabels)),
			{Key: "swarm.simulated", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_BoolValue{BoolValue: true}}},
			{Key: "host.cpu.share", Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_DoubleValue{DoubleValue: float64(s.index%8)/8 + 0.0625}}},
		},
	}
}

func text(key, value string) *protobufs.KeyValue {
	return &protobufs.KeyValue{Key: key, Value: textValue(value)}
}

func textValue(value string) *protobufs.AnyValue {
	return &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: value}}
}

func number(key string, value int64) *protobufs.KeyValue {
	return &protobufs.KeyValue{Key: key, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_IntValue{IntValue: value}}}
}

func list(key string, values ...string) *protobufs.KeyValue {
	array := &protobufs.ArrayValue{}
	for _, value := range values {
		array.Values = append(array.Values, textValue(value))
	}
	return &protobufs.KeyValue{Key: key, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_ArrayValue{ArrayValue: array}}}
}

// health renders the tree as the opamp extension of a collector does: pipelines, their
// components, extensions. What is wrong is wrong with one exporter, and with all above it.
func (s *self) health() *protobufs.ComponentHealth {
	pipelines := map[string]*protobufs.ComponentHealth{}
	for _, signal := range []string{"logs", "metrics", "traces"} {
		sick := ""
		if signal == "traces" {
			sick = s.sick
		}
		pipelines["pipeline:"+signal] = s.part(sick, map[string]*protobufs.ComponentHealth{
			"receiver:otlp": s.part("", nil), "processor:batch": s.part("", nil), "exporter:otlp": s.part(sick, nil),
		})
	}
	pipelines["extensions"] = s.part("", map[string]*protobufs.ComponentHealth{"extension:opamp": s.part("", nil)})
	return s.part(s.sick, pipelines)
}

func (s *self) part(sick string, parts map[string]*protobufs.ComponentHealth) *protobufs.ComponentHealth {
	health := &protobufs.ComponentHealth{
		Healthy: sick == "", Status: "StatusOK", LastError: sick,
		StartTimeUnixNano: uint64(s.started.UnixNano()), StatusTimeUnixNano: uint64(s.changed.UnixNano()),
		ComponentHealthMap: parts,
	}
	if sick != "" {
		health.Status = "StatusRecoverableError"
	}
	return health
}

// effective renders the configuration it really runs: two kilobytes with its own name in
// them, so that no two agents run the same bytes.
func (s *self) effective() []byte {
	var out strings.Builder
	fmt.Fprintf(&out, "# %s runs this, expanded, as %s.\n", s.name, uidText(s.uid))
	if s.running == nil {
		out.WriteString(ownConfig)
	} else {
		out.Write(s.running.bytes)
	}
	return []byte(out.String())
}

// ownConfig is what an agent runs before it was given anything.
const ownConfig = `receivers:
  otlp:
    protocols:
      grpc: {endpoint: 127.0.0.1:4317, transport: tcp, read_buffer_size: 524288, include_metadata: false, max_recv_msg_size_mib: 0}
      http: {endpoint: 127.0.0.1:4318, logs_url_path: /v1/logs, metrics_url_path: /v1/metrics, traces_url_path: /v1/traces}
  hostmetrics:
    collection_interval: 30s
    initial_delay: 1s
    root_path: ""
    scrapers: {cpu: {}, disk: {}, filesystem: {}, load: {cpu_average: false}, memory: {}, network: {}, paging: {}}
processors:
  memory_limiter: {check_interval: 1s, limit_mib: 0, limit_percentage: 80, spike_limit_mib: 0, spike_limit_percentage: 25}
  batch: {metadata_cardinality_limit: 1000, metadata_keys: [], send_batch_max_size: 0, send_batch_size: 8192, timeout: 200ms}
exporters:
  otlp:
    endpoint: otlp.example.com:4317
    balancer_name: round_robin
    compression: gzip
    headers: {api-key: "[REDACTED]"}
    retry_on_failure: {enabled: true, initial_interval: 5s, max_elapsed_time: 5m0s, max_interval: 30s, multiplier: 1.5, randomization_factor: 0.5}
    sending_queue: {block_on_overflow: false, enabled: true, num_consumers: 10, queue_size: 1000, sizer: requests, storage: null}
    tls: {ca_file: /etc/otelcol/ca.pem, insecure: false, insecure_skip_verify: false, min_version: "1.2", reload_interval: 0s}
    timeout: 5s
    write_buffer_size: 524288
extensions:
  opamp:
    server: {ws: {endpoint: wss://opamp.example.com/v1/opamp, headers: {Authorization: "[REDACTED]"}}}
service:
  extensions: [opamp]
  pipelines:
    logs: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [otlp]}
    metrics: {receivers: [otlp, hostmetrics], processors: [memory_limiter, batch], exporters: [otlp]}
    traces: {receivers: [otlp], processors: [memory_limiter, batch], exporters: [otlp]}
  telemetry:
    logs: {development: false, encoding: console, level: info, output_paths: [stderr], sampling: {enabled: true, initial: 10, thereafter: 100, tick: 10s}}
    metrics: {level: none}
`

const effectiveType = "text/yaml"

func (s *self) effectiveConfig() *protobufs.EffectiveConfig {
	return &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{ConfigMap: map[string]*protobufs.AgentConfigObject{
		"": {Body: s.effective(), ContentType: effectiveType},
	}}}
}

// configStatus is empty, and not absent, while no configuration was taken up.
func (s *self) configStatus() *protobufs.RemoteConfigStatus {
	if s.lastOffer == nil {
		return &protobufs.RemoteConfigStatus{}
	}
	return &protobufs.RemoteConfigStatus{LastRemoteConfigHash: s.lastOffer.hash, Status: s.outcome, ErrorMessage: s.words}
}

// body is a remote configuration. All agents that were offered it share it.
type body struct {
	hash  []byte
	bytes []byte
	first time.Time // when the first agent of the swarm received it
	// offered is to how many agents it was new.
	offered atomic.Int64
}

// bodyOf joins the entries of a configuration in the order of their names, the empty one
// last, as a supervisor merges them.
func bodyOf(offer *protobufs.AgentRemoteConfig, now time.Time) *body {
	entries := offer.GetConfig().GetConfigMap()
	names := make([]string, 0, len(entries))
	for name := range entries {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		if (a == "") != (b == "") {
			return strings.Compare(b, a)
		}
		return strings.Compare(a, b)
	})
	b := &body{hash: offer.GetConfigHash(), first: now}
	for _, name := range names {
		b.bytes = append(b.bytes, entries[name].GetBody()...)
	}
	return b
}

// components is what all agents were built of: the hash first, the list on request.
var components = componentList()

func componentList() *protobufs.AvailableComponents {
	kinds := map[string]*protobufs.ComponentDetails{}
	for kind, names := range map[string][]string{
		"receivers":  {"otlp", "hostmetrics", "filelog", "prometheus", "nop"},
		"processors": {"batch", "memory_limiter", "attributes", "filter", "transform"},
		"exporters":  {"otlp", "otlp_http", "debug", "nop"},
		"connectors": {"forward", "count"},
		"extensions": {"opamp", "health_check"},
	} {
		details := &protobufs.ComponentDetails{SubComponentMap: map[string]*protobufs.ComponentDetails{}}
		for _, name := range names {
			details.SubComponentMap[name] = &protobufs.ComponentDetails{
				Metadata: []*protobufs.KeyValue{text("code.namespace", "example.com/collector/"+kind+"/"+name+" v0.149.0")},
			}
		}
		kinds[kind] = details
	}
	return &protobufs.AvailableComponents{Hash: []byte("swarm components 0.149.0"), Components: kinds}
}

func uidText(uid [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", uid[:4], uid[4:6], uid[6:8], uid[8:10], uid[10:])
}
