// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"encoding/binary"
	"errors"
)

// OpAMP's own framing inside a WebSocket message: a varint header, reserved and always
// 0, and the protobuf message (specification, "WebSocket Message Format").

// The ways in which a message has no valid header.
var (
	// errHeaderless: agents of before 2023 sent the protobuf message alone. It cannot
	// be mistaken for a header: no protobuf message begins with a zero byte, and a
	// header is nothing but zeros.
	errHeaderless = errors.New("the message has no header")
	errHeader     = errors.New("the header of the message is not 0")
)

// maxHeader is the longest varint in bytes: 10 (64 bits in groups of 7).
const maxHeader = binary.MaxVarintLen64

// decodeFrame returns the protobuf message of a WebSocket message. A header may be
// padded: any encoding of 0 in 1 to 10 bytes is one.
func decodeFrame(data []byte) ([]byte, error) {
	if len(data) == 0 {
		return nil, errHeader
	}
	header, n := binary.Uvarint(data)
	switch {
	case n > 0 && header == 0:
		return data[n:], nil
	case n > 0 && looksLikeMessage(data):
		return nil, errHeaderless
	default:
		return nil, errHeader
	}
}

// looksLikeMessage: an AgentToServer begins with its instance_uid, field 1, of 16 bytes
// or of 26 characters in the oldest agents.
func looksLikeMessage(data []byte) bool {
	const instanceUID = 1<<3 | 2
	return len(data) > 2 && data[0] == instanceUID && (data[1] == 16 || data[1] == 26)
}

// beginFrame appends the header of a message, which follows.
func beginFrame(dst []byte) []byte { return append(dst, 0) }
