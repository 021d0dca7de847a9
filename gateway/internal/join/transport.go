// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package join

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"
)

// Times of connections to the control plane. A process that is stopped or cut off is
// noticed by a ping and left for another.
const (
	dialTime = 3 * time.Second
	pingIdle = 5 * time.Second
	pingTime = 3 * time.Second
)

// transport carries calls over HTTP/2 to whichever address answers, under the certificate
// of the moment.
type transport struct {
	hosts   []string
	next    atomic.Uint32
	config  func() *tls.Config
	current atomic.Pointer[http.Transport]
}

func newTransport(urls []string, config func() *tls.Config) *transport {
	t := &transport{config: config}
	for _, address := range urls {
		if u, err := url.Parse(address); err == nil {
			t.hosts = append(t.hosts, hostPort(u))
		}
	}
	t.renew()
	return t
}

func hostPort(u *url.URL) string {
	if u.Port() != "" {
		return u.Host
	}
	return net.JoinHostPort(u.Hostname(), "443")
}

// renew makes the next connection anew, with the certificate of the moment. Calls under
// way end as they began.
func (t *transport) renew() {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	next := &http.Transport{
		DialContext: t.dial, TLSClientConfig: t.config(), Protocols: protocols,
		TLSHandshakeTimeout: dialTime, IdleConnTimeout: time.Minute,
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingIdle, PingTimeout: pingTime},
	}
	if old := t.current.Swap(next); old != nil {
		old.CloseIdleConnections()
	}
}

// dial tries the addresses in turn, beginning with the one after the last that answered.
func (t *transport) dial(ctx context.Context, network, _ string) (conn net.Conn, err error) {
	dialer := net.Dialer{Timeout: dialTime}
	for range t.hosts {
		host := t.hosts[int(t.next.Load())%len(t.hosts)]
		if conn, err = dialer.DialContext(ctx, network, host); err == nil {
			return conn, nil
		}
		t.next.Add(1)
	}
	return nil, err
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	return t.current.Load().RoundTrip(request)
}
