// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"net/http"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

const (
	answerTime = 20 * time.Second
	limit      = 10 << 20 // AMPORA_OPAMP_MAX_MESSAGE_BYTES
)

// enrolled is a fresh identity and a peer that has it.
func (b *bad) enrolled() (certificate *tls.Certificate, peer rawopamp.Peer, id string) {
	b.Helper()
	issued := b.s.Issue()
	peer = b.stranger()
	certificate, err := peer.Enrol(b.Context(), issued.GetSecret())
	if err != nil {
		b.Fatal(err)
	}
	return certificate, peer.With(certificate), b.s.AwaitAgent(issued.GetToken().GetId())
}

// greet connects and exchanges the first messages.
func (b *bad) greet(peer rawopamp.Peer, uid []byte) (*rawopamp.Conn, *protobufs.ServerToAgent) {
	b.Helper()
	conn, err := peer.Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	answer, err := conn.Exchange(rawopamp.Hello(uid, "stranger"), answerTime)
	if err != nil {
		b.Fatal(err)
	}
	if refused := answer.GetErrorResponse(); refused != nil {
		b.Fatalf("the first message was refused: %v", refused)
	}
	return conn, answer
}

// known is an agent with a session whose first report is recorded.
func (b *bad) known() (peer rawopamp.Peer, conn *rawopamp.Conn, uid []byte, id string) {
	b.Helper()
	_, peer, id = b.enrolled()
	uid = rawopamp.NewUID()
	conn, _ = b.greet(peer, uid)
	b.Cleanup(func() { _ = conn.Close() })
	b.s.AwaitOnline(id)
	return peer, conn, uid, id
}

func (b *bad) closes(conn *rawopamp.Conn, code int) {
	b.Helper()
	closed, err := conn.ReceiveClose(answerTime)
	if err != nil || closed.Code != code {
		b.Errorf("the end was %v, %v, want close %d", closed, err, code)
	}
}

// badRequest expects the next message to be BAD_REQUEST.
func (b *bad) badRequest(conn *rawopamp.Conn, words string) {
	b.Helper()
	answer, err := conn.Receive(answerTime)
	if err != nil {
		b.Fatalf("want BAD_REQUEST, got %v", err)
	}
	b.isBadRequest(answer, words)
}

func (b *bad) isBadRequest(answer *protobufs.ServerToAgent, words string) {
	b.Helper()
	refused := answer.GetErrorResponse()
	if refused.GetType() != protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest || !strings.Contains(refused.GetErrorMessage(), words) {
		b.Errorf("the answer was %v, want BAD_REQUEST %q", answer, words)
	}
}

// ended expects a session to be over for a reason, and the health it told to be kept.
func (b *bad) ended(id, reason string) {
	b.Helper()
	agent := b.s.AwaitAgentTo(id, "have no session", func(agent *amporav1.Agent) string {
		if agent.GetSession().GetEndReason() != reason {
			return "it ended by " + agent.GetSession().GetEndReason()
		}
		return ""
	})
	if !agent.GetHealth().GetHealthy() {
		b.Errorf("its health became %v", agent.GetHealth())
	}
}

func frameOversized(b *bad) {
	counted := b.counted()
	peer, conn, _, id := b.known()
	if err := conn.SendHeader(limit + 1); err != nil {
		b.Fatal(err)
	}
	b.closes(conn, b.close())
	counted()
	b.boxed(peer)
	b.ended(id, b.reason())

	_, pieces, _, _ := b.known()
	for i := range 11 { // each within the limit, all together not
		op := ws.OpContinuation
		if i == 0 {
			op = ws.OpBinary
		}
		if err := pieces.SendFrame(ws.NewFrame(op, false, make([]byte, 1<<20)), true); err != nil {
			break // it has been closed
		}
	}
	b.closes(pieces, b.close())

	_, polling, _ := b.enrolled()
	answer, err := polling.PostBytes(b.Context(), make([]byte, limit+1), nil)
	if err != nil || answer.Status != b.status() {
		b.Errorf("the poll was answered %v, %v, want %d", answer, err, b.status())
	}
}

func frameMalformed(b *bad) {
	counted := b.counted()
	peer, conn, uid, id := b.known()
	garbage := []byte{0, 0xff, 0xff, 0xff}
	for range 2 {
		if err := conn.SendBytes(garbage); err != nil {
			b.Fatal(err)
		}
		b.badRequest(conn, "")
	}
	if _, err := conn.Exchange(rawopamp.Beat(uid, 1), answerTime); err != nil {
		b.Errorf("the connection did not go on: %v", err)
	}
	if err := conn.SendBytes(garbage); err != nil {
		b.Fatal(err)
	}
	b.closes(conn, b.close())
	counted()
	b.boxed(peer)
	if !b.s.Agent(id).GetHealth().GetHealthy() {
		b.Error("its health changed")
	}
	_, polling, _ := b.enrolled()
	b.malformedPoll(polling, garbage[1:], "")
}

func (b *bad) malformedPoll(peer rawopamp.Peer, body []byte, words string) {
	b.Helper()
	answer, err := peer.PostBytes(b.Context(), body, nil)
	if err != nil || answer.Status != b.status() {
		b.Fatalf("the poll was answered %v, %v, want %d", answer, err, b.status())
	}
	b.isBadRequest(answer.Message, words)
}

func frameCompressedBomb(b *bad) {
	counted, bomb := b.counted(), must(rawopamp.Gzip(3*limit))
	_, peer, _ := b.enrolled()
	unchanged := b.unchanged()
	answer, err := peer.PostBytes(b.Context(), bomb, http.Header{"Content-Encoding": {"gzip"}})
	if err != nil || answer.Status != b.status() {
		b.Errorf("%d bytes were answered %v, %v, want %d", len(bomb), answer, err, b.status())
	}
	counted()
	unchanged(0)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func frameHeaderless(b *bad) {
	counted := b.counted()
	_, peer, _ := b.enrolled()
	conn, err := peer.Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SendBytes(must(proto.Marshal(rawopamp.Hello(rawopamp.NewUID(), "of-2022")))); err != nil {
		b.Fatal(err)
	}
	b.badRequest(conn, "messages without a header are not supported")
	b.closes(conn, b.close())
	counted()
	b.boxed(peer)
}

func uidLength(b *bad) {
	counted := b.counted()
	_, peer, _ := b.enrolled()
	conn, err := peer.Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	short := rawopamp.Hello(bytes.Repeat([]byte{1}, 15), "short")
	for range 2 {
		if err := conn.Send(short); err != nil {
			b.Fatal(err)
		}
		b.badRequest(conn, "instance_uid must have 16 bytes")
	}
	if err := conn.Send(short); err != nil {
		b.Fatal(err)
	}
	b.closes(conn, b.close())
	counted()
	_, polling, _ := b.enrolled()
	b.malformedPoll(polling, must(proto.Marshal(short)), "instance_uid must have 16 bytes")
}

func uidForeign(b *bad) {
	counted := b.counted()
	_, owner, uid, ownerID := b.known()
	before := b.s.Agent(ownerID)
	_, peer, _ := b.enrolled()
	unchanged := b.unchanged()

	conn, err := peer.Dial(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	claim := rawopamp.Hello(uid, "impostor")
	claim.Health.Healthy = false
	if err := conn.Send(claim); err != nil {
		b.Fatal(err)
	}
	b.badRequest(conn, b.reason())
	b.closes(conn, b.close())
	counted()
	b.boxed(peer)
	unchanged(1)
	if _, err := owner.Exchange(rawopamp.Beat(uid, 1), answerTime); err != nil {
		b.Errorf("the owner of the uid lost its session: %v", err)
	}
	if after := b.s.Agent(ownerID); !after.GetHealth().GetHealthy() || after.GetSession().GetEpoch() != before.GetSession().GetEpoch() {
		b.Errorf("the owner of the uid was %v and is %v", before, after)
	}
}

const fullState = uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)

func sequenceGap(b *bad) {
	_, conn, uid, id := b.known()
	gap := rawopamp.Beat(uid, 7)
	gap.Health = &protobufs.ComponentHealth{Healthy: false, Status: "after the gap"}
	answer, err := conn.Exchange(gap, answerTime)
	if err != nil || answer.GetFlags()&fullState == 0 {
		b.Fatalf("the answer was %v, %v, want ReportFullState", answer, err)
	}
	b.healthIs(id, "after the gap")
	full := rawopamp.Hello(uid, "stranger")
	full.SequenceNum = 8
	full.Health.Status = "in full"
	if answer, err = conn.Exchange(full, answerTime); err != nil || answer.GetFlags()&fullState != 0 {
		b.Errorf("the full state was answered %v, %v", answer, err)
	}
	b.healthIs(id, "in full")
}

func (b *bad) healthIs(id, status string) {
	b.Helper()
	b.s.AwaitAgentTo(id, "say "+status, func(agent *amporav1.Agent) string {
		if agent.GetHealth().GetStatus() != status {
			return "it says " + agent.GetHealth().GetStatus()
		}
		return ""
	})
}

func sequenceDuplicate(b *bad) {
	_, conn, uid, id := b.known()
	first := rawopamp.Beat(uid, 1)
	first.Health = &protobufs.ComponentHealth{Healthy: true, Status: "first"}
	if _, err := conn.Exchange(first, answerTime); err != nil {
		b.Fatal(err)
	}
	b.healthIs(id, "first")
	first.Health.Status = "doubled"
	answer, err := conn.Exchange(first, answerTime)
	if err != nil || !proto.Equal(answer, &protobufs.ServerToAgent{InstanceUid: uid}) {
		b.Errorf("the duplicate was answered %v, %v, want the uid alone", answer, err)
	}
	third := rawopamp.Beat(uid, 2)
	third.RemoteConfigStatus = &protobufs.RemoteConfigStatus{ErrorMessage: "a mark behind the duplicate", Status: protobufs.RemoteConfigStatuses_RemoteConfigStatuses_FAILED}
	if answer, err := conn.Exchange(third, answerTime); err != nil || answer.GetFlags()&fullState != 0 {
		b.Errorf("the message behind the duplicate was answered %v, %v", answer, err)
	}
	rig.Await(b, "the message behind the duplicate to be recorded", func() string {
		return unless(b.s.Agent(id).GetRemoteConfigStatus().GetErrorMessage() != "", "it is not")
	})
	b.healthIs(id, "first")
}
