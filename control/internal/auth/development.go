// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"errors"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// developer is who calls without a token in development.
func developer(tenant fleet.TenantID) fleet.Principal {
	return fleet.Principal{Kind: fleet.PrincipalDevelopment, ID: "developer", Name: "developer", Tenant: tenant, Role: fleet.RoleAdmin}
}

// forwarded are the headers by which proxies say that the peer is not the caller.
var forwarded = []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Real-Ip", "Via"}

// Why a call is not the developer's, for the log.
var (
	errPeer      = errors.New("development login: the peer is not on this machine")
	errForwarded = errors.New("development login: the call came through a proxy")
	errHost      = errors.New("development login: the Host header does not name this machine")
	errOrigin    = errors.New("development login: the call came from a page of another origin")
)

// developmentCall returns nil if the call comes from a program on this machine or from our own page in a browser on it.
//
// The peer's address alone proves neither: a proxy on this machine forwards calls of others, and a browser on it runs
// the pages of others. Such a page reaches us under its own host name once that resolves to 127.0.0.1 (DNS rebinding),
// hence the Host header; or under our name from its own origin, hence Origin and Sec-Fetch-Site.
func developmentCall(info *connect.CallInfo) error {
	header := info.RequestHeader()
	peer, err := netip.ParseAddrPort(info.PeerAddr)
	if err != nil || !peer.Addr().Unmap().IsLoopback() {
		return errPeer
	}
	for _, name := range forwarded {
		if header.Has(name) {
			return errForwarded
		}
	}
	hosts := header.Values("Host")
	if len(hosts) != 1 || !loopbackName(hosts[0]) {
		return errHost
	}
	for _, origin := range header.Values("Origin") {
		if page, err := url.Parse(origin); err != nil || !strings.EqualFold(page.Host, hosts[0]) {
			return errOrigin
		}
	}
	for _, site := range header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return errOrigin
		}
	}
	return nil
}

// loopbackName reports whether the value of a Host header names this machine, with or without a port. Only names that
// no resolver can be made to answer otherwise do: localhost (RFC 6761, section 6.3) and loopback addresses.
func loopbackName(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(hostport, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	address, err := netip.ParseAddr(host)
	return err == nil && address.IsLoopback()
}
