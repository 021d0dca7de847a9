// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package revocation_test

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/revocation"
)

// issuer is the certificate of the key.
func (w *world) issuer() *x509.Certificate {
	w.Helper()
	bundle, err := w.authority.Bundle(w.Context(), tenant)
	w.must(err)
	return bundle.Intermediates[0]
}

// question is one about a serial number, as clients make it.
func (w *world) question(serial fleet.Serial, issuer *x509.Certificate) []byte {
	w.Helper()
	number, _ := new(big.Int).SetString(string(serial), 16)
	der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: number}, issuer, &ocsp.RequestOptions{Hash: crypto.SHA256})
	w.must(err)
	return der
}

func (w *world) send(method, path string, body []byte, header ...string) *httptest.ResponseRecorder {
	w.Helper()
	r := httptest.NewRequestWithContext(w.Context(), method, path, bytes.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	return answer
}

// asks asks about a serial number of the key, and returns the answer.
func (w *world) asks(serial fleet.Serial) *ocsp.Response {
	w.Helper()
	got := w.send(http.MethodPost, "/pki/"+string(w.key)+"/ocsp", w.question(serial, w.issuer()))
	answer, err := ocsp.ParseResponse(got.Body.Bytes(), w.issuer())
	if err != nil {
		w.Fatalf("about %s: %d, %v", serial, got.Code, err)
	}
	return answer
}

func TestAnswers(t *testing.T) {
	w := newWorld(t)
	agent := w.enrol("5e")
	w.must(w.answers.Renew(t.Context()))
	first := w.asks("5e")
	if first.Status != ocsp.Good || !first.ThisUpdate.Equal(w.now) || !first.NextUpdate.Equal(w.now.Add(12*time.Hour)) {
		t.Fatalf("answered %+v", first)
	}
	w.now = w.now.Add(time.Hour)
	if again := w.asks("5e"); !again.ThisUpdate.Equal(first.ThisUpdate) {
		t.Error("it was signed once more")
	}
	w.revokeAgent(agent)
	if got := w.asks("5e"); got.Status != ocsp.Revoked || got.RevocationReason != ocsp.KeyCompromise {
		t.Errorf("revoked, it is answered %+v", got)
	}
	// What was made half a life ago is made anew, and what is kept is handed out while the database is away.
	made := w.asks("5e")
	w.now = w.now.Add(7 * time.Hour)
	w.db.away = true
	if got := w.asks("5e"); !got.ThisUpdate.Equal(made.ThisUpdate) {
		t.Error("without a database there is another answer")
	}
	w.db.away = false
	w.now = w.now.Add(time.Second) // it is not looked again at once
	if got := w.asks("5e"); !got.ThisUpdate.Equal(w.now) {
		t.Errorf("after %s it is of %s", w.now.Sub(made.ThisUpdate), got.ThisUpdate)
	}
}

// A revocation between the look at a certificate and the keeping of its answer must not be lost, whoever asks when.
func TestAnswersAreDroppedInTime(t *testing.T) {
	w := newWorld(t)
	w.must(w.answers.Renew(t.Context()))
	for i := range 20 {
		serial := fleet.Serial("10" + string(rune('a'+i%6)) + string(rune('0'+i/6)))
		agent := w.enrol(serial)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { w.asks(serial) })
		}
		all.Go(func() { w.revokeAgent(agent) })
		all.Wait()
		if got := w.asks(serial); got.Status != ocsp.Revoked {
			t.Fatalf("%s is still good", serial)
		}
	}
}

func TestWhoAsksForWhat(t *testing.T) {
	w := newWorld(t)
	w.enrol("5e")
	asked := w.question("5e", w.issuer())
	path := "/pki/" + string(w.key) + "/ocsp"
	refused := func(name string, got *httptest.ResponseRecorder, want []byte) {
		t.Helper()
		if body, _ := io.ReadAll(got.Body); got.Code != http.StatusOK || !bytes.Equal(body, want) || got.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d %x %v", name, got.Code, body, got.Header())
		}
	}
	refused("before there is a responder", w.send(http.MethodPost, path, asked), ocsp.UnauthorizedErrorResponse)
	w.must(w.answers.Renew(t.Context()))

	// One question, asked in every way.
	post := w.send(http.MethodPost, path, asked)
	text := base64.StdEncoding.EncodeToString(asked)
	for _, way := range []string{path + "/" + text, path + "/" + url.PathEscape(text), path + "/" + url.QueryEscape(text), "/pki/ocsp/" + strings.TrimRight(text, "=")} {
		got := w.send(http.MethodGet, way, nil)
		if !bytes.Equal(got.Body.Bytes(), post.Body.Bytes()) || got.Header().Get("Content-Type") != "application/ocsp-response" {
			t.Errorf("%s: %d %x", way, got.Code, got.Body.Bytes())
		}
		if again := w.send(http.MethodGet, way, nil, "If-None-Match", got.Header().Get("ETag")); again.Code != http.StatusNotModified {
			t.Errorf("who has it gets %d", again.Code)
		}
		if got.Header().Get("Expires") != w.now.Add(12*time.Hour).Format(http.TimeFormat) || !strings.Contains(got.Header().Get("Cache-Control"), "max-age=60") {
			t.Errorf("caches are told %v", got.Header())
		}
	}
	if got := w.send(http.MethodPost, "/pki/ocsp", asked); !bytes.Equal(got.Body.Bytes(), post.Body.Bytes()) {
		t.Error("the path without a key answers otherwise")
	}

	// A serial that does not exist, one of another authority, another key: nobody can tell them apart.
	stranger := newWorld(t)
	refused("unknown", w.send(http.MethodPost, path, w.question("6f", w.issuer())), ocsp.UnauthorizedErrorResponse)
	refused("another's", w.send(http.MethodPost, path, w.question("5e", stranger.issuer())), ocsp.UnauthorizedErrorResponse)
	refused("another's, anywhere", w.send(http.MethodPost, "/pki/ocsp", w.question("5e", stranger.issuer())), ocsp.UnauthorizedErrorResponse)
	refused("an unknown key", w.send(http.MethodPost, "/pki/"+string(stranger.key)+"/ocsp", asked), ocsp.UnauthorizedErrorResponse)
	refused("no question", w.send(http.MethodPost, path, []byte("hello")), ocsp.MalformedRequestErrorResponse)
	refused("nothing", w.send(http.MethodGet, path, nil), ocsp.MalformedRequestErrorResponse)
	refused("no base64", w.send(http.MethodGet, path+"/!!!!", nil), ocsp.MalformedRequestErrorResponse)
	if got := w.send(http.MethodPost, path, make([]byte, 5<<10)); got.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too long: %d", got.Code)
	}
	if got := w.send(http.MethodPut, path, asked); got.Code != http.StatusMethodNotAllowed {
		t.Errorf("PUT: %d", got.Code)
	}
	w.db.away = true
	refused("without a database", w.send(http.MethodPost, path, w.question("6f", w.issuer())), ocsp.TryLaterErrorResponse)
}

func TestRespondersAreReplaced(t *testing.T) {
	w := newWorld(t)
	w.enrol("5e")
	w.must(w.answers.Renew(t.Context()))
	before := w.asks("5e").Certificate
	w.must(w.answers.Renew(t.Context()))
	w.now = w.now.Add(90*24*time.Hour - revocation.ResponderRenewal + time.Second)
	w.must(w.answers.Renew(t.Context()))
	if after := w.asks("5e").Certificate; after.Equal(before) || after.NotAfter.Before(w.now.Add(89*24*time.Hour)) {
		t.Errorf("answers are signed by %s, until %s", after.SerialNumber, after.NotAfter)
	}
}

func BenchmarkAnswers(b *testing.B) {
	w := newWorld(b)
	w.enrol("5e")
	w.must(w.answers.Renew(b.Context()))
	path := "/pki/" + string(w.key) + "/ocsp"
	asked := w.question("5e", w.issuer())
	b.ReportAllocs()
	b.SetParallelism(256) // who asks at once shares a look
	b.RunParallel(func(each *testing.PB) {
		for each.Next() {
			if got := w.send(http.MethodPost, path, asked); got.Code != http.StatusOK {
				b.Error(got.Code)
			}
		}
	})
}
