// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// securityRules are about what others could read or do.
var securityRules = []Rule{
	{
		ID: "insecure-transport", Layer: Lint, Severity: Warning,
		Summary: "Telemetry leaves the machine without TLS: tls::insecure, or an endpoint that is plain http.",
		Fix:     "Remove tls::insecure and give tls::ca_file if the certificate is not of a public authority.",
		setting: func(s setting, say report) {
			switch {
			case s.field.Key == "insecure" && s.field.Value.isTrue() && s.within("tls") && s.away():
				say(s.spot(), "%s does not use TLS", s.who())
			case s.field.Key == "endpoint" && s.component.Kind == Exporter && strings.HasPrefix(s.field.Value.text(), "http://") && !onThisMachine(s.field.Value.Text):
				say(s.spot(), "%s does not use TLS to %s", s.who(), quoted(withoutPassword(s.field.Value.Text)))
			}
		},
	},
	{
		ID: "insecure-skip-verify", Layer: Lint, Severity: Warning,
		Summary: "The certificate of the other side is not verified: whoever is in between can read along.",
		Fix:     "Remove it and give ca_file the authority that signed the certificate.",
		setting: func(s setting, say report) {
			if s.field.Key == "insecure_skip_verify" && s.field.Value.isTrue() {
				say(s.spot(), "%s does not verify certificates", s.who())
			}
		},
	},
	{
		ID: "open-listener", Layer: Lint, Severity: Warning,
		Summary: "A component listens on all addresses of the machine.",
		Fix:     "Listen on localhost, or on the one address that is meant: ${env:MY_POD_IP}:4317.",
		setting: func(s setting, say report) {
			if s.field.Key == "endpoint" || s.field.Key == "listen_address" {
				if text := s.field.Value.text(); s.listensEverywhere(text) {
					say(s.spot(), "%s listens on all addresses: %s", s.who(), quoted(text))
				}
			}
		},
	},
	{
		ID: "literal-secret", Layer: Lint, Severity: Warning,
		Summary: "A password, key, token or authorization header is written out. Whoever may read the configuration has it.",
		Fix:     "Refer to it: ${env:NAME} or ${file:/path}.",
		setting: literalSecret,
	},
}

// who names the component in a message.
func (s setting) who() string {
	return "the " + string(s.component.Kind) + " " + quoted(s.component.ID.String())
}

// within reports whether the setting is in a mapping of the name, or stands at the top of the component.
func (s setting) within(name string) bool {
	return len(s.path) > 1 && s.path[len(s.path)-2] == name
}

// away reports whether the component's endpoint may be on another machine. The endpoint stands beside the mapping the
// setting is in, or there is none; one that is a reference is not known.
func (s setting) away() bool {
	endpoint := s.component.Settings.Get(append(s.path[:max(len(s.path)-2, 0):max(len(s.path)-2, 0)], "endpoint")...)
	if endpoint == nil {
		return s.component.Kind == Exporter
	}
	return endpoint.is(String) && !hasReference(endpoint.Text) && !onThisMachine(endpoint.Text)
}

func (n *Node) text() string {
	if !n.is(String) {
		return ""
	}
	return n.Text
}

// hostOf is the host in an endpoint, with or without scheme and port.
func hostOf(endpoint string) string {
	if strings.Contains(endpoint, "://") {
		if u, err := url.Parse(endpoint); err == nil {
			return u.Hostname()
		}
	}
	if host, _, err := net.SplitHostPort(endpoint); err == nil {
		return host
	}
	return strings.Trim(endpoint, "[]")
}

func onThisMachine(endpoint string) bool {
	if strings.HasPrefix(endpoint, "unix:") || strings.HasPrefix(endpoint, "/") {
		return true
	}
	host := hostOf(endpoint)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// listeners are the receivers whose endpoint is where they listen, not what they ask.
var listeners = []string{
	"awsfirehose", "awsxray", "carbon", "collectd", "datadog", "fluentforward", "influxdb", "jaeger", "loki", "opencensus",
	"otlp", "otelarrow", "prometheusremotewrite", "signalfx", "skywalking", "splunkhec", "statsd", "syslog", "tcplog",
	"udplog", "wavefront", "webhookevent", "zipkin",
}

func (s setting) listensEverywhere(endpoint string) bool {
	if endpoint == "" || hasReference(endpoint) {
		return false
	}
	host, _, err := net.SplitHostPort(endpoint)
	switch {
	case err != nil:
		host = strings.Trim(endpoint, "[]")
	case host == "":
		return s.component.Kind == Extension || s.component.Kind == Receiver && slices.Contains(listeners, s.component.ID.kind())
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

var pemKey = regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY-----`)

// longestSecret is how much of a value is looked at, in bytes.
const longestSecret = 8 << 10

func literalSecret(s setting, say report) {
	f := s.field
	text := clip(f.Value.text(), longestSecret)
	if f.Value.is(Int) {
		text = f.Value.Text
	}
	switch {
	case text == "":
	case namesSecret(f.Key) && plainly(text):
		say(s.spot(), "%s has a secret written out in %s", s.who(), quoted(f.Key))
	case s.namedSecret() && plainly(text):
		say(s.spot(), "%s has a secret written out in the header %s", s.who(), quoted(s.beside.Get("name").text()+s.beside.Get("key").text()))
	case pemKey.MatchString(text):
		say(s.spot(), "%s has a private key written out in %s", s.who(), quoted(f.Key))
	case withoutPassword(text) != text:
		say(s.spot(), "%s has a password written out in the address in %s", s.who(), quoted(f.Key))
	}
}

// namedSecret reports whether the setting is the value of a header written as name and value, or key and value.
func (s setting) namedSecret() bool {
	return s.field.Key == "value" && (namesSecret(s.beside.Get("name").text()) || namesSecret(s.beside.Get("key").text()) && s.underHeaders())
}

func (s setting) underHeaders() bool { return slices.ContainsFunc(s.path, holdsHeaders) }
