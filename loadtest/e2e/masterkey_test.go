// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"gitlab.com/ampora/ampora/loadtest/agent"
	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestTheMasterKeyIsReplacedUnderTraffic as docs/operator/secrets.md says: every process learns the new key, then the keys
// are swapped, then everything is wrapped anew (killed in the middle, and run again), then the former key is taken away.
// Agents enrol and connect, configurations are published and applied all the while, and the agent that was there first
// never goes offline.
func TestTheMasterKeyIsReplacedUnderTraffic(t *testing.T) {
	t.Parallel()
	s := rig.NewServer(t, rig.SplitPostgres).Start()
	_, id := run(t, s, "steady", agent.Apply)
	s.AwaitOnline(id)
	online := neverOffline(t, s, id)
	work := begin(t, s, id)
	former, next := s.Master(), s.MasterKey("next.key")

	roll(s, former, next)
	work.awaitRounds(2)
	roll(s, next, former)
	work.awaitRounds(2)
	killed(t, s)
	work.awaitRounds(2)
	if done := s.Control(s.Database.URL, "keys", "rotate-master"); done.Code != 0 || !strings.Contains(done.Stdout, "all are under AMPORA_MASTER_KEY") {
		t.Fatalf("rotate-master: %d\n%s%s", done.Code, done.Stdout, done.Stderr)
	}
	wantStatus(t, s, 0, "AMPORA_PREVIOUS_MASTER_KEY may be removed")
	work.awaitRounds(2)
	roll(s, next, "")
	work.awaitRounds(2)
	work.end()
	online()

	wantStatus(t, s, 0, "no other key is needed")
	s.StolenAuthority("default") // which opens the key by the envelope's description, with the new master key
	applies(t, s, id, "afterwards")
	s.Unlock(former, "")
	wantStatus(t, s, 3, "under keys that are not configured")
	control := s.Controls()[0]
	control.Stop()
	if code := control.Launch().Exit(rig.Patience); code != 1 || !control.Logged("AMPORA_MASTER_KEY is not the key that this database was sealed with") {
		t.Errorf("with the former key alone it ends with %d", code)
	}
	s.Unlock(next, "")
	control.Start()
}

// roll restarts one process of the control plane after the other with other master keys.
func roll(s *rig.Server, master, previous string) {
	s.Unlock(master, previous)
	for _, control := range s.Controls() {
		control.Stop()
		control.Start()
	}
}

// killed begins a rotation, lets it wait for a record that somebody else holds, and kills it there.
func killed(t *testing.T, s *rig.Server) {
	t.Helper()
	release := s.Database.Hold(t, `SELECT FROM signing_keys WHERE kind = 'intermediate' FOR UPDATE`)
	defer release()
	rotation := s.BeginControl("rotation", "keys", "rotate-master")
	rig.Await(t, "the rotation to be in the middle", func() string {
		waiting := s.Database.Count(t, `SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%sealed_key%' AND datname = current_database()`)
		return unless(waiting == 1 && strings.Contains(rotation.Log(), "tenant-data-key 1/1"), fmt.Sprintf("%d wait; it says %q", waiting, rotation.Log()))
	})
	rotation.Kill()
	wantStatus(t, s, 3, "records are under AMPORA_PREVIOUS_MASTER_KEY: keep it", "tenant-data-key", "(AMPORA_MASTER_KEY)")
}

func wantStatus(t *testing.T, s *rig.Server, code int, says ...string) {
	t.Helper()
	status := s.Control(s.Database.URL, "keys", "status")
	if status.Code != code {
		t.Errorf("keys status: %d, want %d\n%s%s", status.Code, code, status.Stdout, status.Stderr)
	}
	for _, part := range says {
		if !strings.Contains(status.Stdout, part) {
			t.Errorf("keys status does not say %q:\n%s", part, status.Stdout)
		}
	}
}

// traffic is what goes on while an operator does something else.
type traffic struct {
	t      *testing.T
	s      *rig.Server
	steady string // an agent that is there all the time
	rounds atomic.Int64
	ending atomic.Bool
	done   chan struct{}
}

// begin begins traffic: round after round, a new agent enrols and connects, and a new configuration is published and
// applied by the steady one.
func begin(t *testing.T, s *rig.Server, steady string) *traffic {
	w := &traffic{t: t, s: s, steady: steady, done: make(chan struct{})}
	t.Cleanup(w.end)
	go func() {
		defer close(w.done)
		for !w.ending.Load() {
			if err := w.round(fmt.Sprint("traffic-", w.rounds.Load())); err != nil {
				t.Errorf("after %d rounds: %v", w.rounds.Load(), err)
				return
			}
			w.rounds.Add(1)
		}
	}()
	return w
}

func (w *traffic) end() {
	w.ending.Store(true)
	<-w.done
}

// awaitRounds waits until so many rounds have been done from their beginning on.
func (w *traffic) awaitRounds(n int64) {
	w.t.Helper()
	enough := w.rounds.Load() + n + 1
	rig.Await(w.t, "traffic", func() string {
		select {
		case <-w.done:
			return "it ended"
		default:
			return unless(w.rounds.Load() >= enough, fmt.Sprintf("%d rounds", w.rounds.Load()))
		}
	})
}

func (w *traffic) round(name string) error {
	if err := w.newcomer(name); err != nil {
		return fmt.Errorf("a new agent: %w", err)
	}
	body := file(w.t, w.s, name+".yaml", newPipeline(w.t, name).yaml())
	if _, err := w.cli("configs", "create", name, "-f", body, "--publish"); err != nil {
		return err
	}
	if _, err := w.cli("configs", "cat", name); err != nil {
		return err
	}
	_, err := w.cli("configs", "assign", name, "--agent", w.steady, "--wait", "--timeout", "50s")
	return err
}

// newcomer enrols an agent and lets it say hello. Whoever is cut off while it enrols makes another key the next time, and so
// needs another token: that the same key is answered again is tested elsewhere.
func (w *traffic) newcomer(name string) error {
	var certificate *tls.Certificate
	err := patiently(func() error {
		text, err := w.cli("tokens", "issue", "-o", "json")
		if err != nil {
			return err
		}
		issued := new(amporav1.IssueBootstrapTokenResponse)
		if err := protojson.Unmarshal([]byte(text), issued); err != nil {
			return fmt.Errorf("%w in %s", err, text)
		}
		certificate, err = w.s.Stranger().Enrol(w.t.Context(), issued.GetSecret())
		return err
	})
	if err != nil {
		return err
	}
	return patiently(func() error {
		conn, err := w.s.Stranger().With(certificate).Dial(w.t.Context())
		if err != nil {
			return err
		}
		defer func() { _ = conn.Close() }()
		answer, err := conn.Exchange(rawopamp.Hello(rawopamp.NewUID(), name), answerTime)
		if err == nil && answer.GetErrorResponse() != nil {
			err = fmt.Errorf("answered %v", answer.GetErrorResponse())
		}
		return err
	})
}

// cli runs amporactl, again and again while the process that it asked is being restarted.
func (w *traffic) cli(args ...string) (stdout string, err error) {
	err = patiently(func() error {
		got := w.s.CLI(args...)
		if got.Code != 0 {
			return fmt.Errorf("amporactl %s: %d\n%s%s", strings.Join(args, " "), got.Code, got.Stdout, got.Stderr)
		}
		stdout = got.Stdout
		return nil
	})
	return stdout, err
}

// patiently does what may fail while a process is being restarted.
func patiently(do func() error) error {
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		err := do()
		if err == nil || time.Since(began) > 20*time.Second {
			return err
		}
	}
}
