// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"google.golang.org/protobuf/encoding/protowire"

	"gitlab.com/ampora/ampora/shared/uplink"
)

// The fields of relay.v1.Sealed.
const (
	bodyField = 1
	sealField = 2
)

// sealRoom is what sealing adds to a message of at most bus.MaxPayload: a tag and the
// length of the body, and the same of the seal.
const sealRoom = 1 + 4 + 1 + 1 + uplink.SealSize

// sealed returns a serialised relay.v1.Sealed of a body in two parts: nothing is copied
// twice.
func sealed(body, rest []byte, seal func(dst, body []byte) []byte) []byte {
	size := len(body) + len(rest)
	out := make([]byte, 0, size+sealRoom)
	out = protowire.AppendTag(out, bodyField, protowire.BytesType)
	out = protowire.AppendVarint(out, uint64(size))
	begin := len(out)
	out = append(append(out, body...), rest...)
	whole := out[begin:]
	out = protowire.AppendTag(out, sealField, protowire.BytesType)
	out = protowire.AppendVarint(out, uplink.SealSize)
	return seal(out, whole)
}
