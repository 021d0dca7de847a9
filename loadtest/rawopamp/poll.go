// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package rawopamp

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// Answer is what a POST was answered with. Message is nil unless the body was one.
type Answer struct {
	Status  int
	Header  http.Header
	Message *protobufs.ServerToAgent
}

// maxAnswer bounds what is read of an answer in bytes.
const maxAnswer = 16 << 20

// Post sends one message over plain HTTP.
func (p Peer) Post(ctx context.Context, m *protobufs.AgentToServer) (*Answer, error) {
	payload, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	return p.PostBytes(ctx, payload, nil)
}

// PostBytes sends a body as it is. header comes on top of the peer's and of the content
// type of OpAMP.
func (p Peer) PostBytes(ctx context.Context, body []byte, header http.Header) (*Answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+p.Addr+Path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	for _, more := range []http.Header{p.Header, header} {
		for key, values := range more {
			request.Header[key] = values
		}
	}
	transport := &http.Transport{DialContext: p.dial, TLSClientConfig: p.TLS, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	return readAnswer(response)
}

func readAnswer(response *http.Response) (*Answer, error) {
	answer := &Answer{Status: response.StatusCode, Header: response.Header}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	if response.Header.Get("Content-Type") != "application/x-protobuf" {
		return answer, nil
	}
	answer.Message = new(protobufs.ServerToAgent)
	if err := proto.Unmarshal(text, answer.Message); err != nil {
		return nil, fmt.Errorf("the server's message: %w", err)
	}
	return answer, nil
}

// Gzip compresses size zero bytes: about a thousandth of it remains.
func Gzip(size int64) ([]byte, error) {
	var small bytes.Buffer
	writer := gzip.NewWriter(&small)
	if _, err := io.CopyN(writer, zeros{}, size); err != nil {
		return nil, err
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return small.Bytes(), nil
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
