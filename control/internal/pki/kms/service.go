// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package kms

import (
	"context"
	"crypto"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"go.step.sm/crypto/kms/uri"
)

const (
	// maxCalls is how many calls of one key service may be under way, those among them that nobody waits for any more.
	maxCalls = 32
	// createLimit is how long making a key may take: an HSM may take its time for RSA.
	createLimit = 30 * time.Second
	// maxTries is how often a call is tried, firstPause the rest before the second time; the next are longer each.
	maxTries, firstPause, longerPause = 4, 100 * time.Millisecond, 3
)

// service is one key service: opened when it is needed, and anew after something went wrong.
type service struct {
	driver Driver
	uri    *uri.URI
	limit  time.Duration
	health *health
	slots  chan struct{}

	// opening lets one open the service at a time; mu guards what is open.
	opening sync.Mutex
	mu      sync.Mutex
	open    *opened
}

// opened is an open key service and the keys that were opened in it.
type opened struct {
	manager Manager
	signers map[string]crypto.Signer
	users   int
	gone    bool // to be closed when nobody uses it
}

func newService(driver Driver, u *uri.URI, limit time.Duration, log *slog.Logger) *service {
	return &service{
		driver: driver, uri: u, limit: limit, slots: make(chan struct{}, maxCalls),
		health: &health{scheme: driver.Scheme, log: log},
	}
}

func (s *service) create(ctx context.Context, name string, algorithm Algorithm) (Key, error) {
	return call(ctx, s, "create", createLimit, func(ctx context.Context, o *opened) (Key, error) {
		return o.manager.Create(ctx, name, algorithm)
	})
}

func (s *service) find(ctx context.Context, key string) (crypto.PublicKey, error) {
	return call(ctx, s, "open", s.limit, func(ctx context.Context, o *opened) (crypto.PublicKey, error) {
		signer, err := s.signer(ctx, o, key)
		if err != nil {
			return nil, err
		}
		return signer.Public(), nil
	})
}

// sign signs with a key, which must be the one that the public key belongs to, and verifies what comes back.
func (s *service) sign(key string, public crypto.PublicKey, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return call(context.Background(), s, "sign", s.limit, func(ctx context.Context, o *opened) ([]byte, error) {
		signer, err := s.signer(ctx, o, key)
		if err != nil {
			return nil, err
		}
		if !Same(public, signer.Public()) {
			return nil, &wrong{errors.New("its public key is not that of the certificate")}
		}
		if ctx.Err() != nil { // nobody waits for the signature any more
			return nil, ctx.Err()
		}
		signature, err := signer.Sign(rand.Reader, digest, opts)
		if err != nil {
			return nil, fmt.Errorf("sign: %w", err)
		}
		if err := verify(public, digest, signature, opts); err != nil {
			return nil, &wrong{err}
		}
		return signature, nil
	})
}

// signer opens a key, or returns it as it was opened before.
func (s *service) signer(ctx context.Context, o *opened, key string) (crypto.Signer, error) {
	s.mu.Lock()
	signer := o.signers[key]
	s.mu.Unlock()
	if signer != nil {
		return signer, nil
	}
	u, err := parse(key)
	if err != nil {
		return nil, err
	}
	if err := s.driver.CheckKey(u); err != nil {
		return nil, fmt.Errorf("the key's URI: %w", err)
	}
	if signer, err = o.manager.Open(ctx, u); err != nil {
		return nil, fmt.Errorf("open the key %s: %w", key, err)
	}
	s.mu.Lock()
	o.signers[key] = signer
	s.mu.Unlock()
	return signer, nil
}

// wrong is what a key did that is not ours.
type wrong struct{ error }

// Failures of the service as such.
var (
	errSlow = errors.New("it did not answer in time")
	errBusy = fmt.Errorf("%d calls are under way already", maxCalls)
)

// notOpen is why the service could not be opened.
type notOpen struct{ error }

func (n *notOpen) Unwrap() error { return n.error }

// call does something with the open service within a limit, again if that may help, and keeps how it went. Its error is
// a fault.
func call[T any](ctx context.Context, s *service, operation string, limit time.Duration, do func(context.Context, *opened) (T, error)) (T, error) {
	began := time.Now()
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	value, err := attempt(within, s, do)
	for tries, pause := 1, firstPause; err != nil && tries < maxTries && s.transient(err) && rest(within, pause); tries, pause = tries+1, pause*longerPause {
		value, err = attempt(within, s, do)
	}
	if err != nil && ctx.Err() != nil {
		s.health.note(operation, outcomeCanceled, time.Since(began), err)
		return value, unavailable(s.driver.Scheme, ctx.Err())
	}
	s.health.note(operation, s.outcome(err), time.Since(began), err)
	var other *wrong
	switch {
	case err == nil:
		return value, nil
	case errors.As(err, &other):
		return value, wrongKey(s.driver.Scheme, err)
	default:
		return value, unavailable(s.driver.Scheme, err)
	}
}

// attempt does something once. Adapters take no context and may hang: what hangs is left behind, and counts among the
// calls under way until it returns.
func attempt[T any](ctx context.Context, s *service, do func(context.Context, *opened) (T, error)) (value T, err error) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return value, errBusy
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		defer func() { <-s.slots }()
		var r result
		r.err = s.use(ctx, func(o *opened) (err error) {
			r.value, err = do(ctx, o)
			return err
		})
		done <- r
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return value, errSlow
	}
}

// use opens the service if it is not, and does something with it.
func (s *service) use(ctx context.Context, do func(*opened) error) (err error) {
	// An adapter that breaks is a key service that failed, and no end of the program.
	defer func() {
		if broken := recover(); broken != nil {
			err = fmt.Errorf("the adapter broke: %v", broken)
		}
	}()
	o, err := s.enter(ctx)
	if err != nil {
		return &notOpen{err}
	}
	whole := false
	defer func() {
		s.leave(o)
		if !whole {
			s.forget(o)
		}
	}()
	err = do(o)
	whole = err == nil || !s.driver.Stale(err)
	return err
}

func (s *service) enter(ctx context.Context) (*opened, error) {
	s.opening.Lock()
	defer s.opening.Unlock()
	s.mu.Lock()
	o := s.open
	if o != nil {
		o.users++
	}
	s.mu.Unlock()
	if o != nil {
		return o, nil
	}
	if ctx.Err() != nil { // somebody else's opening took too long
		return nil, ctx.Err()
	}
	manager, err := s.driver.Open(ctx, s.uri)
	if err != nil {
		return nil, err
	}
	o = &opened{manager: manager, signers: map[string]crypto.Signer{}, users: 1}
	s.mu.Lock()
	s.open = o
	s.mu.Unlock()
	return o, nil
}

func (s *service) leave(o *opened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o.users--; o.gone && o.users == 0 {
		go func() { _ = o.manager.Close() }() // it may hang
	}
}

// forget has an open service closed as soon as nobody uses it; nil: whichever is open.
func (s *service) forget(o *opened) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil || o != nil && s.open != o {
		return
	}
	o, s.open = s.open, nil
	if o.gone = true; o.users == 0 {
		go func() { _ = o.manager.Close() }()
	}
}

// transient says that a call may go better in a moment.
func (s *service) transient(err error) bool {
	var other *wrong
	return !errors.As(err, &other) && !errors.Is(err, errSlow) && !errors.Is(err, errBusy) && s.driver.Transient(err)
}

func (s *service) outcome(err error) string {
	var other *wrong
	var closed *notOpen
	switch {
	case err == nil:
		return outcomeOK
	case errors.As(err, &other):
		return outcomeWrongKey
	case errors.Is(err, errBusy):
		return outcomeBusy
	case errors.Is(err, errSlow), errors.Is(err, context.DeadlineExceeded):
		return outcomeSlow
	case errors.As(err, &closed), s.driver.Transient(err):
		return outcomeAway
	default:
		return outcomeRefused
	}
}

// rest waits, if there is time left after it.
func rest(ctx context.Context, pause time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= pause {
		return false
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
