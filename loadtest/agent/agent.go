// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
)

// Config says who an agent is and how it behaves.
type Config struct {
	// Endpoint is where it connects first: wss:// for WebSocket, https:// for polling.
	Endpoint string
	// Roots verify the server, until an offer names others. Nil: the system's.
	Roots *x509.CertPool
	// Token is the bootstrap token it enrols with. Empty: it has Certificate.
	Token string
	// Certificate is its identity, if it has one already.
	Certificate *tls.Certificate
	// Name is its service.name and the host it claims to run on.
	Name string
	// Attributes are further non-identifying attributes of its description.
	Attributes map[string]string
	// Heartbeat is the rest between heartbeats, and between polls. 0: 30 s.
	Heartbeat time.Duration
	// Respond decides what becomes of a configuration. Nil: [Apply].
	Respond Respond
	// Log gets what happens. Nil: nothing.
	Log *slog.Logger
}

// Agent is a simulated agent.
type Agent struct {
	config Config
	uid    [16]byte
	log    *slog.Logger
	state  *watched
	next   chan *protobufs.AgentRemoteConfig
	words  chan string // statuses of its health, to be told
}

// New makes an agent that is not connected yet.
func New(c Config) (*Agent, error) {
	endpoint, err := url.Parse(c.Endpoint)
	if err != nil || (endpoint.Scheme != "wss" && endpoint.Scheme != "https") {
		return nil, fmt.Errorf("endpoint %q: must be a wss:// or https:// URL", c.Endpoint)
	}
	if (c.Token == "") == (c.Certificate == nil) {
		return nil, errors.New("an agent has either a bootstrap token or a certificate")
	}
	if c.Respond == nil {
		c.Respond = Apply
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &Agent{config: c, log: c.Log.With("agent", c.Name), state: newWatched(), next: make(chan *protobufs.AgentRemoteConfig, 1), words: make(chan string, 8)}
	a.uid = newUID(time.Now())
	return a, nil
}

// UID is the instance uid it reports: a UUIDv7, as the specification advises.
func (a *Agent) UID() [16]byte { return a.uid }

// SetHealth makes it tell that it is healthy, with a status.
func (a *Agent) SetHealth(status string) { a.words <- status }

// Run connects, enrols if it must, and stays connected until ctx ends, which it takes
// for an orderly stop: it says goodbye and returns nil.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	settings, err := a.firstSettings()
	if err != nil {
		return err
	}
	for settings != nil {
		if settings, err = a.session(ctx, settings); err != nil {
			return err
		}
	}
	return nil
}

// firstSettings are those of the configuration.
func (a *Agent) firstSettings() (*settings, error) {
	s := &settings{
		endpoint: a.config.Endpoint,
		header:   http.Header{},
		tls:      &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: a.config.Roots},
	}
	if a.config.Certificate != nil {
		s.tls.Certificates = []tls.Certificate{*a.config.Certificate}
		return s, nil
	}
	s.header.Set("Authorization", "Bearer "+a.config.Token)
	var err error
	s.enrolment, err = newEnrolment(a.config.Name)
	return s, err
}

const capabilities = protobufs.AgentCapabilities_AgentCapabilities_ReportsStatus |
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsEffectiveConfig |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsRemoteConfig |
	protobufs.AgentCapabilities_AgentCapabilities_AcceptsOpAMPConnectionSettings |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsConnectionSettingsStatus |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsHealth |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsHeartbeat |
	protobufs.AgentCapabilities_AgentCapabilities_ReportsAvailableComponents

func (a *Agent) description() *protobufs.AgentDescription {
	claims := map[string]string{"os.type": "linux", "host.name": a.config.Name}
	maps.Copy(claims, a.config.Attributes)
	d := &protobufs.AgentDescription{
		IdentifyingAttributes: []*protobufs.KeyValue{
			attribute("service.name", a.config.Name),
			attribute("service.version", "0.0.0-simulated"),
			attribute("service.instance.id", uidText(a.uid)),
		},
	}
	for _, key := range slices.Sorted(maps.Keys(claims)) {
		d.NonIdentifyingAttributes = append(d.NonIdentifyingAttributes, attribute(key, claims[key]))
	}
	return d
}

func attribute(key, value string) *protobufs.KeyValue {
	return &protobufs.KeyValue{Key: key, Value: &protobufs.AnyValue{Value: &protobufs.AnyValue_StringValue{StringValue: value}}}
}

// components is what it claims to be built of: the hash first, the list on request.
func components() *protobufs.AvailableComponents {
	kinds := map[string]*protobufs.ComponentDetails{}
	for kind, names := range map[string][]string{"receivers": {"otlp", "nop"}, "exporters": {"debug", "nop"}} {
		details := &protobufs.ComponentDetails{SubComponentMap: map[string]*protobufs.ComponentDetails{}}
		for _, name := range names {
			details.SubComponentMap[name] = &protobufs.ComponentDetails{
				Metadata: []*protobufs.KeyValue{attribute("code.namespace", "simulated/"+name)},
			}
		}
		kinds[kind] = details
	}
	return &protobufs.AvailableComponents{Hash: []byte("simulated agents are all alike"), Components: kinds}
}

// newUID is a UUIDv7 (RFC 9562, section 5.7).
func newUID(now time.Time) (uid [16]byte) {
	_, _ = rand.Read(uid[:]) // never fails
	for i, ms := 5, now.UnixMilli(); i >= 0; i, ms = i-1, ms>>8 {
		uid[i] = byte(ms)
	}
	uid[6] = uid[6]&0x0f | 0x70
	uid[8] = uid[8]&0x3f | 0x80
	return uid
}

func uidText(uid [16]byte) string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", uid[:4], uid[4:6], uid[6:8], uid[8:10], uid[10:])
}
