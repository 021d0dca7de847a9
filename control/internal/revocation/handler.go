// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"net/http"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Bounds of what strangers can make us do.
const (
	// fresh is how long a list is handed out without looking whether there is a newer one.
	fresh = 2 * time.Second
	// looks is how many look for one in the database at a time; more are told to come back.
	looks = 16
	// maxKey is far above the length of a key's name.
	maxKey = 64
)

// caching is for caches between us and whoever asks: what is revoked shall be known soon everywhere.
var caching = []string{"public, max-age=60"}

// shown are the lists that were handed out of late. Only those that exist are kept, and keys are few.
type shown struct {
	mu    sync.Mutex
	lists map[fleet.KeyID]seen
}

// seen is a list in the forms that it is asked for in, made once: it may have megabytes.
type seen struct {
	forms map[string]document
	at    time.Time
}

// document is what is handed out.
type document struct {
	body []byte
	kind string // its media type
	tag  string // its entity tag
	made time.Time
}

func newDocument(body []byte, kind string, made time.Time) document {
	sum := sha256.Sum256(body)
	return document{body: body, kind: kind, tag: `"` + hex.EncodeToString(sum[:16]) + `"`, made: made}
}

func formsOf(l fleet.RevocationList) map[string]document {
	text := pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: l.DER})
	return map[string]document{
		"crl.der": newDocument(l.DER, "application/pkix-crl", l.ThisUpdate), // RFC 5280, section 4.2.1.13
		"crl.pem": newDocument(text, pemKind, l.ThisUpdate),
	}
}

const pemKind = "application/x-pem-file"

// Handler serves, without a login:
//
//	GET  /pki/{key}/crl.der        the list of a signing key, in DER; crl.pem likewise
//	POST /pki/{key}/ocsp           whether a certificate is good that the key has signed
//	GET  /pki/{key}/ocsp/{base64}  the same, for caches in between (RFC 6960, appendix A.1)
//	GET  /pki/crl.der              the list of the key that signs now; crl.pem likewise
//	     /pki/ocsp                 whether a certificate is good that any key has signed
//	GET  /pki/trust-bundle.pem     what agents' certificates are verified with
func Handler(l *Lists, a *Answers) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /pki/{key}/{form}", func(w http.ResponseWriter, r *http.Request) {
		l.serve(w, r, fleet.KeyID(r.PathValue("key")), r.PathValue("form"))
	})
	mux.HandleFunc("GET /pki/{form}", l.serveActive)
	mux.HandleFunc("GET /pki/trust-bundle.pem", l.serveBundle)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Before the mux, which would take the "//" of a question for a mistake in the path.
		if key, question, asks := questionOf(r.URL.EscapedPath()); asks {
			a.serve(w, r, key, question)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (l *Lists) serveActive(w http.ResponseWriter, r *http.Request) {
	key, err := l.d.Authority.ActiveKey(r.Context(), l.d.Tenant)
	if err != nil {
		l.refuse(w, r, err)
		return
	}
	l.serve(w, r, key, r.PathValue("form"))
}

func (l *Lists) serve(w http.ResponseWriter, r *http.Request, key fleet.KeyID, form string) {
	if form != "crl.der" && form != "crl.pem" || len(key) > maxKey {
		http.NotFound(w, r)
		return
	}
	forms, err := l.list(r.Context(), key)
	if err != nil {
		l.refuse(w, r, err)
		return
	}
	forms[form].write(w, r)
}

func (l *Lists) serveBundle(w http.ResponseWriter, r *http.Request) {
	bundle, err := l.d.Authority.Bundle(r.Context(), l.d.Tenant)
	if err != nil {
		l.refuse(w, r, err)
		return
	}
	newDocument(bundle.PEM, pemKind, time.Time{}).write(w, r)
}

// write answers with the document, or with 304 to whoever has it.
func (d document) write(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", d.kind)
	w.Header()["Cache-Control"] = caching
	w.Header().Set("ETag", d.tag)
	http.ServeContent(w, r, "", d.made, bytes.NewReader(d.body))
}

var errBusy = errors.New("too many ask for lists at once")

// list is the newest list of a key, or one that was a moment ago. The former one is better than none while the database
// is away.
func (l *Lists) list(ctx context.Context, key fleet.KeyID) (forms map[string]document, err error) {
	l.shown.mu.Lock()
	known, is := l.shown.lists[key]
	l.shown.mu.Unlock()
	if is && l.d.Now().Sub(known.at) < fresh {
		return known.forms, nil
	}
	found, err := l.look(ctx, key)
	if err != nil && is {
		return known.forms, nil
	}
	if err != nil {
		return nil, err
	}
	forms = formsOf(found)
	l.shown.mu.Lock()
	defer l.shown.mu.Unlock()
	l.shown.lists[key] = seen{forms, l.d.Now()}
	return forms, nil
}

func (l *Lists) look(ctx context.Context, key fleet.KeyID) (fleet.RevocationList, error) {
	select {
	case l.looking <- struct{}{}:
		defer func() { <-l.looking }()
		return l.d.Store.RevocationList(ctx, key)
	default:
		return fleet.RevocationList{}, errBusy
	}
}

func (l *Lists) refuse(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, store.ErrNotFound) {
		http.NotFound(w, r)
		return
	}
	l.d.Log.WarnContext(r.Context(), "a revocation list could not be handed out", "path", r.URL.Path, "error", err)
	w.Header().Set("Retry-After", "5")
	http.Error(w, "not available now", http.StatusServiceUnavailable)
}
