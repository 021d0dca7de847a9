// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway"
	"gitlab.com/ampora/ampora/gateway/internal/gatewaytest"
	internalv1 "gitlab.com/ampora/ampora/proto/gen/ampora/internalv1"
)

// poller is an agent that polls, each time over a connection of its own.
type poller struct {
	w   *world
	uid [16]byte
	seq uint64
}

func protobufHeader() http.Header {
	return http.Header{"Content-Type": {"application/x-protobuf; charset=utf-8"}}
}

func (p *poller) poll(message *protobufs.AgentToServer) *protobufs.ServerToAgent {
	p.w.t.Helper()
	status, header, body := p.post(message)
	if status != http.StatusOK || header.Get("Content-Type") != "application/x-protobuf" || header.Get("Etag") != "" {
		p.w.t.Fatalf("answered %d %v %s", status, header, body)
	}
	var answer protobufs.ServerToAgent
	if err := proto.Unmarshal(body, &answer); err != nil {
		p.w.t.Fatal(err)
	}
	return &answer
}

// post polls and counts the message, whatever the answer.
func (p *poller) post(message *protobufs.AgentToServer) (int, http.Header, []byte) {
	p.w.t.Helper()
	message.InstanceUid, message.SequenceNum = p.uid[:], p.seq
	p.seq++
	data, err := proto.Marshal(message)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return p.w.post(p.w.tls(p.w.certificate), "/v1/opamp", protobufHeader(), data)
}

// again repeats the number of the last message, as an agent whose answer was lost.
func (p *poller) again() { p.seq-- }

func TestPolling(t *testing.T) {
	w := start(t)
	agent := &poller{w: w, uid: [16]byte{1}}
	if answer := agent.poll(gatewaytest.Full(remoteConfig)); answer.GetCapabilities() == 0 || answer.GetFlags() != 0 {
		t.Errorf("the first answer is %v", answer)
	}
	first := w.uplink(w.agent.ID, isReport)
	w.downlink(w.configDownlink(1, w.control.AddBody([]byte("a: b"))))
	var offer *protobufs.AgentRemoteConfig
	w.eventually("the offer waits for the next poll", func() bool {
		offer = agent.poll(&protobufs.AgentToServer{Capabilities: uint64(remoteConfig)}).GetRemoteConfig()
		return offer != nil
	})
	if string(offer.GetConfig().GetConfigMap()["main"].GetBody()) != "a: b" {
		t.Errorf("the offer is %v", offer)
	}
	w.uplink(w.agent.ID, isDelivery)

	// A restart counts from 0 and gets a new epoch at once.
	agent.seq = 0
	if answer := agent.poll(gatewaytest.Full(remoteConfig)); answer.GetFlags() != 0 {
		t.Errorf("after a restart the flags are %d", answer.GetFlags())
	}
	session, _ := w.control.Session(w.agent)
	if session.Epoch <= first.GetEpoch() || session.Takeover != internalv1.Takeover_TAKEOVER_RESTART {
		t.Errorf("the session is %+v", session)
	}
}

func TestPollingSessionEndsInSilence(t *testing.T) {
	w := start(t, func(c *gateway.Config) { c.PingInterval, c.IdleTimeout = 10*time.Millisecond, 100*time.Millisecond })
	(&poller{w: w, uid: [16]byte{1}}).poll(gatewaytest.Full(0))
	if reason := w.uplink(w.agent.ID, isEnd).GetEnded().GetReason(); reason != "IDLE" {
		t.Errorf("the session ended with %s", reason)
	}
}

func TestBadPolls(t *testing.T) {
	w := start(t)
	compressed := func(size int) []byte {
		var small bytes.Buffer
		compress := gzip.NewWriter(&small)
		_, _ = io.CopyN(compress, zeroes{}, int64(size))
		_ = compress.Close()
		return small.Bytes()
	}
	gzipped := protobufHeader()
	gzipped.Set("Content-Encoding", "gzip")
	unknown := protobufHeader()
	unknown.Set("Content-Encoding", "br")
	for name, test := range map[string]struct {
		header http.Header
		body   []byte
		status int
	}{
		"too big":           {protobufHeader(), make([]byte, 1<<20+1), http.StatusRequestEntityTooLarge},
		"bomb":              {gzipped, compressed(1 << 28), http.StatusRequestEntityTooLarge},
		"not gzip":          {gzipped, []byte("x"), http.StatusBadRequest},
		"unknown encoding":  {unknown, []byte("x"), http.StatusBadRequest},
		"malformed":         {protobufHeader(), []byte{0xff}, http.StatusBadRequest},
		"wrong uid length":  {protobufHeader(), []byte{1<<3 | 2, 1, 'x'}, http.StatusBadRequest},
		"no content type":   {http.Header{}, []byte("x"), http.StatusUnsupportedMediaType},
		"neither transport": {http.Header{}, nil, http.StatusUpgradeRequired},
	} {
		if status, _, body := w.post(w.tls(w.certificate), "/v1/opamp", test.header, test.body); status != test.status {
			t.Errorf("%s: answered %d %s, want %d", name, status, body, test.status)
		}
	}
	if n := w.rejections("oversize"); n != 2 {
		t.Errorf("%d oversize messages were counted", n)
	}
}

func TestCompressedPoll(t *testing.T) {
	w := start(t)
	message := gatewaytest.Full(0)
	message.InstanceUid = make([]byte, 16)
	data, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	var small bytes.Buffer
	compress := gzip.NewWriter(&small)
	_, _ = compress.Write(data)
	_ = compress.Close()
	header := protobufHeader()
	header.Set("Content-Encoding", "gzip")
	if status, _, body := w.post(w.tls(w.certificate), "/v1/opamp", header, small.Bytes()); status != http.StatusOK {
		t.Errorf("answered %d %s", status, body)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
