// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/metric"
	"golang.org/x/crypto/ocsp"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/instrument"
)

// Bounds of what is kept and done for strangers.
const (
	// lookTime bounds a look for what was revoked, and for lookPause none follows one that failed: what is kept is handed
	// out without waiting for a database that is away.
	lookTime  = time.Second
	lookPause = time.Second
	// lookApart is at least between two looks: who asks meanwhile waits, and shares the next.
	lookApart = 5 * time.Millisecond
	// maxAnswers bounds the answers that are kept, of about 700 bytes each.
	maxAnswers = 1 << 15
	// maxSince is how much at once is forgotten one by one. Of more, everything is.
	maxSince = 1000
	// respondersAge is how long a responder is used without looking whether there is a newer one.
	respondersAge = 10 * time.Minute
	// ResponderRenewal is how long before its end a responder is replaced.
	ResponderRenewal = pki.ResponderLifetime / 3
)

// AnswersStore is what answers are made of.
type AnswersStore interface {
	store.Responders
	Tenants(ctx context.Context) ([]fleet.Tenant, error)
	Certificate(ctx context.Context, tenant fleet.TenantID, serial fleet.Serial) (fleet.Certificate, error)
	RevokedSince(ctx context.Context, tenant fleet.TenantID, number int64, now time.Time, max int) (fleet.Revocations, error)
}

// AnswersDeps is what Answers need.
type AnswersDeps struct {
	Store     AnswersStore
	Authority *pki.Authority
	// Tenant is the one that the address without a key is about.
	Tenant fleet.TenantID
	// Nonces says that whoever wants an answer of this moment gets one, which costs a signature each.
	Nonces bool
	Log    *slog.Logger
	Meter  metric.Meter
	Now    func() time.Time
}

// Answers says of single certificates whether they are good (RFC 6960), with answers that are signed once and kept. Before
// each one that is given it is looked whether something was revoked, on every replica; many that ask share one look.
type Answers struct {
	d     AnswersDeps
	given instrument.Counter
	// looking bounds the questions about certificates that are put to the database at a time.
	looking chan struct{}
	// tickets counts those who asked. A look covers all who have a ticket when it begins; one is done at a time.
	tickets    atomic.Uint64
	refreshing sync.Mutex
	covered    uint64
	looked     time.Time // by the process's clock
	failed     time.Time // when the last look failed, if it did

	mu         sync.Mutex
	seen       map[fleet.TenantID]int64 // the last revocation that is known
	round      uint64                   // grows with each look that found something
	kept       map[asked]answer
	responders map[fleet.KeyID]opened
}

// asked is what an answer is about.
type asked struct {
	key    fleet.KeyID
	hash   crypto.Hash // by which its issuer is named
	serial fleet.Serial
}

type answer struct {
	document
	standing string // the metric's word for it
	next     time.Time
}

type opened struct {
	*pki.Responder
	at time.Time
}

// NewAnswers returns Answers.
func NewAnswers(d AnswersDeps) (*Answers, error) {
	made := instrument.On(d.Meter)
	a := &Answers{
		d: d, looking: make(chan struct{}, looks), seen: map[fleet.TenantID]int64{}, kept: map[asked]answer{}, responders: map[fleet.KeyID]opened{},
		given: made.Counter("ampora_control_ocsp_answers", "{answer}",
			"Answers about single certificates. unauthorized is about none of ours, malformed no question, busy one for later.",
			instrument.By("outcome", good, revoked, unauthorized, malformed, busy)),
	}
	if err := made.Err(); err != nil {
		return nil, fmt.Errorf("revocation: %w", err)
	}
	return a, nil
}

// The outcomes.
const (
	good         = "good"
	revoked      = "revoked"
	unauthorized = "unauthorized"
	malformed    = "malformed"
	busy         = "busy"
)

// refusals are what those get whose question is not answered (RFC 6960, section 4.2.1), unsigned. That a certificate is
// unknown and that it is another's is one answer: nobody can tell serial numbers that exist from others.
var refusals = map[string][]byte{
	unauthorized: ocsp.UnauthorizedErrorResponse, malformed: ocsp.MalformedRequestErrorResponse, busy: ocsp.TryLaterErrorResponse,
}

// Renew makes the responders that are due. One that cannot be made holds up no other.
func (a *Answers) Renew(ctx context.Context) error {
	now := a.d.Now()
	due, err := a.d.Store.DueResponders(ctx, now.Add(ResponderRenewal))
	if err != nil {
		return fmt.Errorf("revocation: %w", err)
	}
	var failed []error
	for _, of := range due {
		made, err := a.d.Authority.IssueResponder(ctx, of.Tenant, of.Key, now)
		if fault.Is(err, pki.ReasonNoResponders) {
			continue // its leaves name none
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("the responder of key %s: %w", of.Key, err))
			continue
		}
		err = a.d.Store.PutResponder(ctx, made, of.Serial)
		if err != nil && !errors.Is(err, store.ErrConflict) { // another replica was first
			failed = append(failed, fmt.Errorf("store the responder of key %s: %w", of.Key, err))
		}
	}
	return errors.Join(failed...)
}

// answer answers a question about a certificate of the key, or of any key of the tenant if that is empty.
func (a *Answers) answer(ctx context.Context, key fleet.KeyID, der []byte) answer {
	q, err := pki.ParseQuestion(der)
	if err != nil {
		return refusal(malformed)
	}
	r, err := a.responderFor(ctx, key, q)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return refusal(unauthorized)
	case err != nil:
		a.d.Log.WarnContext(ctx, "a question about a certificate could not be answered", "key", key, "error", err)
		return refusal(busy)
	}
	if !a.d.Nonces {
		q.Nonce = nil
	}
	if err := a.refresh(ctx); err != nil {
		a.d.Log.WarnContext(ctx, "it is not known what was revoked of late", "error", err) // what is kept is still good
	}
	return a.about(ctx, r, q)
}

// about answers from what is kept, or with a new signature.
func (a *Answers) about(ctx context.Context, r *pki.Responder, q pki.Question) answer {
	of := asked{r.Key, q.Hash(), q.Serial}
	a.mu.Lock()
	found, is := a.kept[of]
	round := a.round
	a.mu.Unlock()
	now := a.d.Now()
	if is && q.Nonce == nil && now.Before(renewal(found, of)) {
		return found
	}
	made, err := a.sign(ctx, r, q, now)
	switch {
	case err != nil && is && q.Nonce == nil && now.Before(found.next):
		return found // better than none
	case errors.Is(err, store.ErrNotFound):
		return refusal(unauthorized)
	case err != nil:
		a.d.Log.WarnContext(ctx, "a question about a certificate could not be answered", "key", r.Key, "error", err)
		return refusal(busy)
	}
	if q.Nonce != nil {
		made.tag = "" // it is for the asker alone
		return made
	}
	a.keep(of, made, round)
	return made
}

// renewal is when an answer is made anew: after half of its life, and up to a quarter before, so that those which were made
// at once are not made anew at once.
func renewal(kept answer, of asked) time.Time {
	h := fnv.New32a()
	_, _ = h.Write([]byte(of.serial)) // never fails
	life := kept.next.Sub(kept.made)
	return kept.made.Add(life/2 - life/4*time.Duration(h.Sum32()%64)/64)
}

func (a *Answers) sign(ctx context.Context, r *pki.Responder, q pki.Question, now time.Time) (answer, error) {
	select {
	case a.looking <- struct{}{}:
		defer func() { <-a.looking }()
	default:
		return answer{}, errBusy
	}
	c, err := a.d.Store.Certificate(ctx, r.Tenant, q.Serial)
	if err == nil && c.Key != r.Key {
		err = store.ErrNotFound
	}
	if err != nil {
		return answer{}, err
	}
	standing := good
	if !c.RevokedAt.IsZero() {
		standing = revoked
	}
	der, next, err := r.Answer(q, pki.Standing{RevokedAt: c.RevokedAt, Reason: c.Reason}, now)
	if err != nil {
		return answer{}, err
	}
	return answer{newDocument(der, answerKind, now.UTC().Truncate(time.Second)), standing, next}, nil
}

const answerKind = "application/ocsp-response"

func refusal(outcome string) answer {
	return answer{document: document{body: refusals[outcome], kind: answerKind}, standing: outcome}
}

// keep keeps an answer, unless something was revoked since it was looked up: it may be that.
func (a *Answers) keep(of asked, made answer, round uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.round != round {
		return
	}
	for old := range a.kept { // any will do: it is made again when it is asked for
		if len(a.kept) < maxAnswers {
			break
		}
		delete(a.kept, old)
	}
	a.kept[of] = made
}

// refresh drops what is kept about certificates that were revoked before it was called.
func (a *Answers) refresh(ctx context.Context) error {
	ticket := a.tickets.Add(1)
	a.refreshing.Lock()
	defer a.refreshing.Unlock()
	if a.covered >= ticket { // who was before has looked for us as well
		return nil
	}
	if now := a.d.Now(); now.Sub(a.failed) < lookPause {
		return errAway
	}
	time.Sleep(lookApart - time.Since(a.looked))
	covers := a.tickets.Load()
	a.looked = time.Now()
	// Whoever asked may go; the look is for others too.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	if err := a.look(ctx); err != nil {
		a.failed = a.d.Now()
		return err
	}
	a.covered, a.failed = covers, time.Time{}
	return nil
}

var errAway = errors.New("the database was away a moment ago")

func (a *Answers) look(ctx context.Context) error {
	now := a.d.Now()
	tenants, err := a.d.Store.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, t := range tenants {
		if err := a.forget(ctx, t, now); err != nil {
			return err
		}
	}
	return nil
}

func (a *Answers) forget(ctx context.Context, t fleet.Tenant, now time.Time) error {
	a.mu.Lock()
	seen, known := a.seen[t.ID]
	a.mu.Unlock()
	if known && seen == t.Revocations {
		return nil
	}
	since := fleet.Revocations{Last: t.Revocations, More: true} // what is unknown, or was put back, drops everything
	if known && seen < t.Revocations {
		var err error
		if since, err = a.d.Store.RevokedSince(ctx, t.ID, seen, now, maxSince); err != nil {
			return err
		}
	}
	gone := map[fleet.Serial]bool{}
	for _, serial := range since.Serials {
		gone[serial] = true
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for of := range a.kept {
		if since.More || gone[of.serial] {
			delete(a.kept, of)
		}
	}
	a.round++
	a.seen[t.ID] = max(since.Last, t.Revocations)
	return nil
}

// responderFor is the responder that answers the question. ErrNotFound if there is none.
func (a *Answers) responderFor(ctx context.Context, key fleet.KeyID, q pki.Question) (*pki.Responder, error) {
	keys := []fleet.KeyID{key}
	if key == "" {
		var err error
		if keys, err = a.d.Authority.SigningKeys(ctx, a.d.Tenant); err != nil {
			return nil, err
		}
	}
	for _, key := range keys {
		r, err := a.responder(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		if err == nil && r.AnswersFor(q) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("a responder: %w", store.ErrNotFound)
}

func (a *Answers) responder(ctx context.Context, key fleet.KeyID) (*pki.Responder, error) {
	now := a.d.Now()
	a.mu.Lock()
	known, is := a.responders[key]
	a.mu.Unlock()
	if is && now.Sub(known.at) < respondersAge {
		return known.Responder, nil
	}
	select {
	case a.looking <- struct{}{}:
		defer func() { <-a.looking }()
	default:
		return nil, errBusy
	}
	found, err := a.openResponder(ctx, key)
	if err != nil && is && now.Before(known.NotAfter()) {
		return known.Responder, nil // while the database is away
	}
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.responders[key] = opened{found, now}
	return found, nil
}

func (a *Answers) openResponder(ctx context.Context, key fleet.KeyID) (*pki.Responder, error) {
	stored, err := a.d.Store.Responder(ctx, key)
	if err != nil {
		return nil, err
	}
	return a.d.Authority.OpenResponder(ctx, stored)
}
