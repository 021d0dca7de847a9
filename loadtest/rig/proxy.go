// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rig

import (
	"net/url"
	"strings"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// Proxy stands between a program and servers, and can take them away from it.
type Proxy struct {
	t       testing.TB
	proxies []*toxiproxy.Proxy
}

// Through returns the URLs of servers, separated by commas, as they are reached through a new proxy, which is not there
// before it joins.
func Through(t testing.TB, servers string) (p *Proxy, through string) {
	t.Helper()
	p = &Proxy{t: t}
	urls := strings.Split(servers, ",")
	toxics := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	for i, server := range urls {
		parsed, err := url.Parse(server)
		if err != nil || parsed.Host == "" {
			t.Fatal("not the URL of a server") // which may hold a password
		}
		addr := FreeAddr(t)
		p.proxies = append(p.proxies, toxiproxy.NewProxy(toxics, addr, addr, parsed.Host))
		parsed.Host = addr
		urls[i] = parsed.String()
	}
	t.Cleanup(p.Cut)
	return p, strings.Join(urls, ",")
}

// Detour leads the connections of a part to what one of its variables names through a proxy, from its next start on. The
// proxy has joined.
func (p *Part) Detour(variable string) *Proxy {
	t := p.server.t
	t.Helper()
	proxy, through := Through(t, p.Env[variable])
	p.Env[variable] = through
	proxy.Join()
	return proxy
}

// Join lets connections through.
func (p *Proxy) Join() {
	p.t.Helper()
	for _, proxy := range p.proxies {
		if err := proxy.Start(); err != nil {
			p.t.Fatal(err)
		}
	}
}

// Cut closes all connections and refuses others.
func (p *Proxy) Cut() {
	for _, proxy := range p.proxies {
		proxy.Stop()
	}
}

// Swallow keeps all connections, and takes others, but lets nothing through, as a network does that has lost its way. What
// was sent is lost: cut and join to go on.
func (p *Proxy) Swallow() {
	p.t.Helper()
	for _, proxy := range p.proxies {
		for _, way := range []string{"upstream", "downstream"} {
			toxic := strings.NewReader(`{"type": "timeout", "stream": "` + way + `", "attributes": {"timeout": 0}}`)
			if _, err := proxy.Toxics.AddToxicJson(toxic); err != nil {
				p.t.Fatal(err)
			}
		}
	}
}

// Heal lets new connections through after any of these, and closes the old ones.
func (p *Proxy) Heal() {
	p.t.Helper()
	p.Cut()
	for _, proxy := range p.proxies {
		proxy.Toxics.ResetToxics(p.t.Context())
	}
	p.Join()
}
