// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"fmt"
	"math/big"
	"testing"
	"time"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// TestLostAnswer: who lost the answer to an enrolment asks again with the same key and
// gets the same certificate, until it has used it. Another key gets nothing.
func TestLostAnswer(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		b := &bad{T: t, s: s}
		token := s.Issue().GetSecret()
		peer := b.stranger()
		first, err := peer.Enrol(t.Context(), token)
		if err != nil {
			t.Fatal(err)
		}
		key := first.PrivateKey.(*ecdsa.PrivateKey)
		again, err := peer.EnrolKey(t.Context(), token, key)
		if err != nil {
			t.Fatalf("asked again: %v", err)
		}
		if !bytes.Equal(first.Certificate[0], again.Certificate[0]) {
			t.Error("the same key got another certificate")
		}
		_, err = b.stranger().Enrol(t.Context(), token)
		b.refused(err, 401)
		for _, table := range []string{"agents", "certificates"} {
			if n := s.Database.Count(t, "SELECT count(*) FROM "+table); n != 1 {
				t.Errorf("%d %s are stored", n, table)
			}
		}
	})
}

// TestUnrecorded: a certificate of the right authority, for the right agent, that was
// never recorded. Only recorded serials are admitted, whoever signed.
func TestUnrecorded(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		b := &bad{T: t, s: s}
		certificate, _, id := b.enrolled()
		like := *certificate.Leaf
		like.SerialNumber = new(big.Int).Add(like.SerialNumber, big.NewInt(1))
		forged := s.StolenAuthority("default").Agent(t, &like, time.Now().Add(time.Hour))
		conn, err := b.stranger().With(forged).Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if err := conn.Send(rawopamp.Hello(rawopamp.NewUID(), "forged")); err != nil {
			t.Fatal(err)
		}
		b.badRequest(conn, "CERTIFICATE_NOT_RECORDED")
		b.closes(conn, 1008)
		if agent := s.Agent(id); agent.GetSession().GetEpoch() != 0 || agent.GetDescription() != nil {
			t.Errorf("the forger spoke for the agent: %v", agent)
		}
	})
}

// TestClones: two machines with one identity push each other out, and the identity is
// quarantined when that goes on.
func TestClones(t *testing.T) {
	flavours(t, func(t *testing.T, s *rig.Server) {
		b := &bad{T: t, s: s}
		_, peer, id := b.enrolled()
		machines := [2][]byte{rawopamp.NewUID(), rawopamp.NewUID()}
		older := b.lives(peer, machines[0])
		for round := 1; ; round++ {
			if round > 5 {
				t.Fatal("no quarantine after five takeovers")
			}
			newer := b.lives(peer, machines[round%2])
			if end := <-older; end == "" {
				t.Error("the older machine was not told")
			}
			older = newer
			if quarantined(s.Agent(id)) {
				t.Logf("quarantined in round %d", round)
				break
			}
		}
		rig.Await(t, "the quarantined identity to be refused", func() string {
			conn, err := peer.Dial(t.Context())
			if err != nil {
				return err.Error() // its penalty is not over
			}
			defer conn.Close()
			answer, err := conn.Exchange(rawopamp.Hello(machines[0], "clone"), answerTime)
			if err != nil {
				return err.Error()
			}
			b.isBadRequest(answer, "QUARANTINED")
			return ""
		})
	})
}

func quarantined(agent *amporav1.Agent) bool { return attention(agent, "QUARANTINED") == "" }

// lives connects as one machine, waiting for penalties to end, and answers pings until
// the connection ends, which the channel tells how.
func (b *bad) lives(peer rawopamp.Peer, uid []byte) <-chan string {
	b.Helper()
	var conn *rawopamp.Conn
	rig.Await(b, "the machine to be let in", func() (missing string) {
		var err error
		if conn, err = peer.Dial(b.Context()); err != nil {
			return err.Error()
		}
		return ""
	})
	ended := make(chan string, 1)
	b.Cleanup(func() { _ = conn.Close() })
	if err := conn.Send(rawopamp.Hello(uid, "clone")); err != nil {
		b.Fatal(err)
	}
	if _, err := conn.Receive(answerTime); err != nil {
		b.Logf("the first message was answered by the end: %v", err)
	}
	go func() {
		for {
			if _, err := conn.Receive(rig.Patience); err != nil {
				ended <- fmt.Sprint(err)
				return
			}
		}
	}()
	return ended
}
