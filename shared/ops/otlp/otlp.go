// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package otlp sends what a program tells of itself to an OTLP receiver: traces, metrics and logs as protobuf over HTTP
// (OpenTelemetry Protocol, "OTLP/HTTP").
//
// Its guarantees: whoever tells something never waits for the receiver; queues are bounded, and what does not fit is
// dropped and counted; a receiver that is away costs those queues, a bounded number of requests and a line in the log
// once in a while; what waits at the end is sent within the time that the end allows; no redirect is followed, and no
// header of a request shows in an error.
//
// It speaks the protocol itself, over its message types, because the exporters of the SDK link gRPC: some eight
// megabytes for every gateway that none of it would use.
package otlp

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/shared/conf"
	"gitlab.com/ampora/ampora/shared/instrument"
	"gitlab.com/ampora/ampora/shared/run"
)

// Times and bounds.
const (
	// sendTime is how long one batch may take, with its repetitions.
	sendTime = 10 * time.Second
	// firstPause is the rest before a repetition; it doubles with each.
	firstPause = time.Second
	// complaintPause is the least time between two complaints.
	complaintPause = time.Minute
	// maxAnswer bounds what is read of an answer, so that the connection can be used again.
	maxAnswer = 64 << 10
)

// Config says where telemetry goes. Package conf reads it as part of a program's configuration.
type Config struct {
	Endpoint string      `env:"AMPORA_OTLP_ENDPOINT" help:"OTLP/HTTP receiver, such as https://collector:4318: traces, metrics and logs are sent to its /v1/traces, /v1/metrics and /v1/logs. Empty: nothing leaves the installation."`
	Headers  conf.Secret `env:"AMPORA_OTLP_HEADERS" help:"Headers of every request to the receiver, NAME=VALUE separated by commas, such as an authorization."`
	CAFile   string      `env:"AMPORA_OTLP_CA_FILE" help:"Certificates, PEM, that verify the receiver. Empty means the system's roots."`
}

// signal is one of the three things that are sent; its text ends the path.
type signal string

const (
	traces  signal = "traces"
	metrics signal = "metrics"
	logs    signal = "logs"
)

// tally counts spans, metrics and log records.
type tally struct{ sent, failed, dropped atomic.Int64 }

// Client sends to one receiver. Make one with [New]. What [Client.Spans], [Client.Metrics] and [Client.Logs] make
// is closed by its owner.
type Client struct {
	base     *url.URL
	headers  http.Header
	http     *http.Client
	resource *resource.Resource
	log      *slog.Logger

	tallies    map[signal]*tally
	complained atomic.Int64 // when, in nanoseconds
}

// New makes a client that speaks for the resource. What goes wrong while sending is told to log, which must not lead
// back here.
func New(config Config, about *resource.Resource, log *slog.Logger) (*Client, error) {
	base, err := config.base()
	if err != nil {
		return nil, err
	}
	headers, err := config.headers()
	if err != nil {
		return nil, err
	}
	transport, err := config.transport()
	if err != nil {
		return nil, err
	}
	return &Client{
		base: base, headers: headers, resource: about, log: log,
		http: &http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		tallies: map[signal]*tally{traces: {}, metrics: {}, logs: {}},
	}, nil
}

// Measure declares what is counted of the sending itself.
func (c *Client) Measure(meter metric.Meter) error { return Declare(meter, c.observe) }

// Declare declares the instruments of a client, whose values read tells.
func Declare(meter metric.Meter, read func(instrument.Observe)) error {
	made := instrument.On(meter)
	made.Total("ampora_otlp_items", "{item}", "Spans, metrics and log records by what became of them: dropped because too many wait, failed because the receiver did not take them, or sent.",
		read, instrument.By("signal", string(traces), string(metrics), string(logs)), instrument.By("outcome", "sent", "failed", "dropped"))
	return made.Err()
}

func (c *Client) observe(observe instrument.Observe) {
	for signal, t := range c.tallies {
		observe(float64(t.sent.Load()), string(signal), "sent")
		observe(float64(t.failed.Load()), string(signal), "failed")
		observe(float64(t.dropped.Load()), string(signal), "dropped")
	}
}

// send posts one message about a number of items, again and again while that may help and there is time.
func (c *Client) send(ctx context.Context, s signal, items int, message proto.Message) {
	ctx, cancel := context.WithTimeout(ctx, sendTime)
	defer cancel()
	body, err := packed(message)
	for pause := firstPause; err == nil; pause *= 2 {
		var retry time.Duration
		if retry, err = c.post(ctx, s, body); err == nil {
			c.tallies[s].sent.Add(int64(items))
			return
		}
		if retry == 0 || run.Sleep(ctx, max(retry, pause)) != nil {
			break
		}
		err = nil
	}
	c.tallies[s].failed.Add(int64(items))
	c.complain(s, err)
}

// packed is a message as it is posted.
func packed(message proto.Message) ([]byte, error) {
	raw, err := proto.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	var small bytes.Buffer
	pack := gzip.NewWriter(&small)
	_, _ = pack.Write(raw) // into memory
	_ = pack.Close()
	return small.Bytes(), nil
}

// post posts once. After a failure that another try may mend, retry is the least time to wait before it.
func (c *Client) post(ctx context.Context, s signal, body []byte) (retry time.Duration, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base.JoinPath("v1", string(s)).String(), bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header = c.headers.Clone()
	request.Header.Set("Content-Type", "application/x-protobuf")
	request.Header.Set("Content-Encoding", "gzip")
	response, err := c.http.Do(request)
	if _, stranger := errors.AsType[*tls.CertificateVerificationError](err); stranger {
		return 0, err // which it stays
	}
	if err != nil {
		return firstPause, err
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	switch response.StatusCode {
	case http.StatusOK, http.StatusAccepted:
		return 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		// The codes that the protocol names as worth a repetition.
		return max(firstPause, retryAfter(response)), fmt.Errorf("the receiver answers %s", response.Status)
	default:
		return 0, fmt.Errorf("the receiver answers %s", response.Status)
	}
}

func retryAfter(response *http.Response) time.Duration {
	seconds, err := strconv.Atoi(response.Header.Get("Retry-After"))
	if err != nil {
		return 0
	}
	return time.Duration(seconds) * time.Second
}

// complain tells that something was lost, once in a while.
func (c *Client) complain(s signal, err error) {
	now, last := time.Now().UnixNano(), c.complained.Load()
	if last != 0 && now-last < int64(complaintPause) || !c.complained.CompareAndSwap(last, now) {
		return
	}
	var about *url.Error
	if errors.As(err, &about) {
		err = about.Err // the address is known, and is said below as it was configured
	}
	c.log.Warn("telemetry could not be exported", "signal", string(s), "endpoint", c.base.String(), "error", err,
		"failed", c.tallies[s].failed.Load(), "dropped", c.tallies[s].dropped.Load())
}
