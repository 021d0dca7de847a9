// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"testing"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

// Whatever comes reads as the parser reads it, and a heartbeat is nothing but one.
func FuzzParse(f *testing.F) {
	uid := make([]byte, 16)
	for _, message := range []*protobufs.AgentToServer{
		{},
		{InstanceUid: uid, SequenceNum: 1 << 40, Capabilities: 0x7de7},
		{InstanceUid: uid, SequenceNum: 1, Health: &protobufs.ComponentHealth{}},
		{InstanceUid: uid, Flags: 1},
	} {
		data, err := proto.Marshal(message)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(append(data, data...))
		f.Add(append(data, 0xf8, 0x7f, 1)) // a field that nobody knows
	}
	f.Add([]byte{2<<3 | 2, 1, 'x'})                                                           // a number that is none
	f.Add([]byte{2 << 3, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02})         // too large a number
	f.Add([]byte{0x88, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 1, 1<<3 | 2, 9}) // cut short
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, want protobufs.AgentToServer
		news, err := parse(data, &got)
		wantErr := proto.Unmarshal(data, &want)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%x: %v, want %v", data, err, wantErr)
		}
		if err != nil {
			return
		}
		if !proto.Equal(&got, &want) || news != saysAnything(&want) {
			t.Fatalf("%x reads as %v, news %v; want %v, news %v", data, &got, news, &want, saysAnything(&want))
		}
	})
}
