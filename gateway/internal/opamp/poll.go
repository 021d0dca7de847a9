// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/gateway/internal/edge"
)

// readTime is how long the body of a poll may take, per MiB that may come.
const readTime = 10 * time.Second

// poll answers one POST (specification, "Plain HTTP Transport").
func (s *Server) poll(w http.ResponseWriter, r *http.Request) {
	caller, ok := s.Admission.Admit(w, r)
	if !ok || !s.Admission.Reserve(w, r, caller) {
		return
	}
	defer s.Admission.Release(caller)
	limit := s.Limits.MessageBytes
	if caller.Enrolling() {
		limit = min(limit, enrolBytes)
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(readTime * time.Duration(1+limit>>20)))
	body, err := readBody(w, r, int64(limit))
	switch {
	case errors.Is(err, errTooBig):
		s.Rejections.Reject(r.Context(), edge.Oversize, err, edge.Known(caller)...)
		http.Error(w, "message too big", http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		s.Rejections.Reject(r.Context(), edge.Malformed, err, edge.Known(caller)...)
		http.Error(w, "the body cannot be read", http.StatusBadRequest)
		return
	}
	if caller.Enrolling() {
		s.enrolPoll(w, r, caller, body)
		return
	}
	s.answerPoll(w, r, &poller{server: s, from: caller}, body)
}

func (s *Server) answerPoll(w http.ResponseWriter, r *http.Request, p *poller, body []byte) {
	if !s.inFlight.enter(edge.BoxKey(p.from)) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "one poll at a time", http.StatusTooManyRequests)
		return
	}
	defer s.inFlight.leave(edge.BoxKey(p.from))
	out := s.exchange(r.Context(), p, body)
	if out.end != nil && out.end.reject != "" {
		s.Rejections.Reject(r.Context(), out.end.reject, out.end, edge.Known(p.from)...)
		s.Admission.Punish(p.from)
	}
	status := http.StatusOK
	switch {
	case out.shed:
		edge.Busy(w, edge.Overload())
		return
	case out.fault == edge.Malformed && out.session == nil:
		status = http.StatusBadRequest
	}
	posted, sent := s.post(r.Context(), out.answer, out.session)
	if err := s.tell(r.Context(), out.session, sent); err != nil {
		s.written(out.session, sent, err)
		s.Rejections.Reject(r.Context(), edge.Unavailable, err, edge.Known(p.from)...)
		edge.Busy(w, edge.Overload())
		return
	}
	payload := posted.append(nil, sent)
	s.written(out.session, sent, s.writePoll(w, r, status, payload))
	clear(payload) // an offer may hold a private key
}

var errTooBig = errors.New("the message is too big")

// readBody reads the request. The limit counts what is sent as well as what it inflates to.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	var reader io.Reader = http.MaxBytesReader(w, r.Body, limit)
	switch encoding := r.Header.Get("Content-Encoding"); {
	case strings.EqualFold(encoding, "gzip"):
		inflated, err := gzip.NewReader(reader)
		if err != nil {
			return nil, tooBig(err)
		}
		reader = inflated
	case encoding != "" && !strings.EqualFold(encoding, "identity"):
		return nil, errors.New("an unknown content encoding")
	}
	body, err := io.ReadAll(io.LimitReader(reader, limit+1))
	switch {
	case err != nil:
		return nil, tooBig(err)
	case int64(len(body)) > limit:
		return nil, errTooBig
	}
	return body, nil
}

func tooBig(err error) error {
	if _, over := errors.AsType[*http.MaxBytesError](err); over {
		return errTooBig
	}
	return err
}

// worthCompressing is the size below which gzip makes answers longer.
const worthCompressing = 512

func (s *Server) writePoll(w http.ResponseWriter, r *http.Request, status int, payload []byte) error {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(s.Limits.WriteTime))
	header := w.Header()
	header.Set("Content-Type", "application/x-protobuf")
	header.Add("Vary", "Accept-Encoding")
	if len(payload) >= worthCompressing && acceptsGzip(r.Header.Get("Accept-Encoding")) {
		var small bytes.Buffer
		compress := gzip.NewWriter(&small)
		_, _ = compress.Write(payload) // into memory
		_ = compress.Close()
		payload = small.Bytes()
		header.Set("Content-Encoding", "gzip")
	}
	header.Set("Content-Length", strconv.Itoa(len(payload)))
	w.WriteHeader(status)
	_, err := w.Write(payload)
	if err == nil {
		err = http.NewResponseController(w).Flush()
	}
	return err
}

// acceptsGzip reads Accept-Encoding (RFC 9110, section 12.5.3): gzip or * with a weight
// that is not 0.
func acceptsGzip(accept string) bool {
	for part := range strings.SplitSeq(accept, ",") {
		coding, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if coding = strings.TrimSpace(coding); !strings.EqualFold(coding, "gzip") && coding != "*" {
			continue
		}
		_, value, weighted := strings.Cut(weight, "=")
		q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
		return !weighted || err == nil && q > 0
	}
	return false
}

// inFlight allows one poll of an identity at a time.
type inFlight struct {
	mu   sync.Mutex
	keys map[string]struct{}
}

func newInFlight() *inFlight { return &inFlight{keys: make(map[string]struct{})} }

func (f *inFlight) enter(key string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, busy := f.keys[key]; busy {
		return false
	}
	f.keys[key] = struct{}{}
	return true
}

func (f *inFlight) leave(key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.keys, key)
}
