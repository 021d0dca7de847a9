// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const patience = 50 * time.Millisecond

// served serves the handler as NewHandler does, over HTTP/1.1 and HTTP/2, with less patience.
func served(t *testing.T, handler http.HandlerFunc) (url string, clients map[string]*http.Client) {
	t.Helper()
	server := httptest.NewUnstartedServer(withoutSlowPeers(handler, patience))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	var onlyHTTP2 http.Protocols
	onlyHTTP2.SetUnencryptedHTTP2(true)
	clients = map[string]*http.Client{"HTTP/1.1": {Transport: &http.Transport{}}, "HTTP/2": {Transport: &http.Transport{Protocols: &onlyHTTP2}}}
	t.Cleanup(func() {
		for _, c := range clients {
			c.CloseIdleConnections()
		}
	})
	return server.URL, clients
}

// TestWhoDoesNotSendItsRequestIsCutOff: also if the call was answered without the request's being read.
func TestWhoDoesNotSendItsRequestIsCutOff(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"unread": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"read": func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err == nil {
				t.Error("half a request was read as a whole one")
			}
			w.WriteHeader(http.StatusBadRequest)
		},
	} {
		url, _ := served(t, handler)
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("%s: still connected: %v", name, err)
		}
		_ = conn.Close()
	}
}

func TestWhoDoesNotReadItsAnswerIsCutOff(t *testing.T) {
	gone := make(chan struct{}, 2)
	url, clients := served(t, func(w http.ResponseWriter, _ *http.Request) {
		for {
			if _, err := w.Write(make([]byte, 1<<20)); err != nil {
				gone <- struct{}{}
				return
			}
		}
	})
	for name, client := range clients {
		answer, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		select {
		case <-gone:
		case <-time.After(20 * time.Second):
			t.Errorf("%s: still writing", name)
		}
		_ = answer.Body.Close()
	}
}

// TestASilentStreamIsNotCutOff: neither side says anything for longer than a peer may take for what it does say.
func TestASilentStreamIsNotCutOff(t *testing.T) {
	url, clients := served(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadAll(r.Body); err != nil {
			t.Error(err)
		}
		for _, word := range []string{"one ", "two"} {
			_, _ = io.WriteString(w, word)
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
				t.Error("the stream was ended")
			case <-time.After(4 * patience):
			}
		}
	})
	for name, client := range clients {
		answer, err := client.Post(url, "text/plain", strings.NewReader("go on"))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(answer.Body)
		if err != nil || string(text) != "one two" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		_ = answer.Body.Close()
	}
}
