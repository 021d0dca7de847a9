// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"bytes"
	"errors"
	"testing"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"
)

func TestDecodeFrame(t *testing.T) {
	padded := func(n int) []byte { return append(bytes.Repeat([]byte{0x80}, n-1), 0) }
	for name, test := range map[string]struct {
		data []byte
		want string
		err  error
	}{
		"header and message":   {[]byte("\x00abc"), "abc", nil},
		"header alone":         {[]byte{0}, "", nil},
		"two bytes":            {append(padded(2), 'x'), "x", nil},
		"ten bytes":            {append(padded(10), 'x'), "x", nil},
		"eleven bytes":         {append(padded(11), 'x'), "", errHeader},
		"no end":               {[]byte{0x80, 0x80}, "", errHeader},
		"nothing":              {nil, "", errHeader},
		"header 1":             {[]byte("\x01abc"), "", errHeader},
		"header 128":           {[]byte("\x80\x01abc"), "", errHeader},
		"no header":            {append([]byte{0x0a, 16}, make([]byte, 16)...), "", errHeaderless},
		"no header, older uid": {append([]byte{0x0a, 26}, make([]byte, 26)...), "", errHeaderless},
	} {
		got, err := decodeFrame(test.data)
		if string(got) != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func FuzzDecodeFrame(f *testing.F) {
	f.Add([]byte{0})
	f.Add([]byte("\x80\x80\x00abc"))
	f.Add([]byte("\x0a\x10abcdefghijklmnop"))
	f.Fuzz(func(t *testing.T, data []byte) {
		message, err := decodeFrame(data)
		switch {
		case err != nil && !errors.Is(err, errHeader) && !errors.Is(err, errHeaderless):
			t.Fatalf("%v", err)
		case err == nil && (len(data)-len(message) < 1 || len(data)-len(message) > maxHeader):
			t.Fatalf("a header of %d bytes", len(data)-len(message))
		case err == nil && !bytes.HasSuffix(data, message):
			t.Fatal("the message is not the rest")
		}
		if again, err := decodeFrame(append(beginFrame(nil), data...)); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("framed and unframed: %q, %v", again, err)
		}
	})
}

// Cutting keeps what it does not know, and what was cut can be put back.
func TestCutKeepsTheRest(t *testing.T) {
	message := &protobufs.AgentToServer{
		SequenceNum: 7,
		EffectiveConfig: &protobufs.EffectiveConfig{ConfigMap: &protobufs.AgentConfigMap{ConfigMap: map[string]*protobufs.AgentConfigObject{
			"b": {Body: []byte("two"), ContentType: "text/yaml"}, "a": {Body: []byte("one")}, "empty": {ContentType: "text/yaml"},
		}}},
		AvailableComponents: &protobufs.AvailableComponents{Hash: []byte("h"), Components: map[string]*protobufs.ComponentDetails{"receivers": {}}},
	}
	unknown := []byte{0xfa, 0x3f, 1, 'x'} // field 1023
	message.ProtoReflect().SetUnknown(unknown)
	cuttings, err := cut(message)
	if err != nil || len(cuttings) != 3 || cuttings[0].name != "a" || string(cuttings[1].body) != "two" {
		t.Fatalf("cut: %v, %v", cuttings, err)
	}
	data, err := proto.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	var rest protobufs.AgentToServer
	if err := proto.Unmarshal(data, &rest); err != nil {
		t.Fatal(err)
	}
	config := rest.GetEffectiveConfig().GetConfigMap().GetConfigMap()
	if !bytes.Equal(rest.ProtoReflect().GetUnknown(), unknown) || len(config) != 3 || config["b"].GetContentType() != "text/yaml" || config["b"].GetBody() != nil {
		t.Errorf("the rest is %v", &rest)
	}
	var components protobufs.AvailableComponents
	if err := proto.Unmarshal(cuttings[2].body, &components); err != nil || len(components.GetComponents()) != 1 || string(rest.GetAvailableComponents().GetHash()) != "h" {
		t.Errorf("the components are %v, %v", &components, err)
	}
}

func TestParseMask(t *testing.T) {
	all, err := ParseMask(nil)
	if err != nil || !all.allows(uint64(acceptsRemoteConfig), acceptsRemoteConfig) {
		t.Errorf("no names: %v, %v", all, err)
	}
	some, err := ParseMask([]string{"ReportsHealth", " AcceptsOpAMPConnectionSettings"})
	if err != nil || some.allows(^uint64(0), acceptsRemoteConfig) || !some.allows(^uint64(0), acceptsConnectionSettings) || some.allows(0, acceptsConnectionSettings) {
		t.Errorf("some names: %v, %v", some, err)
	}
	for _, name := range []string{"", "Unspecified", "acceptsRemoteConfig", "0x2"} {
		if _, err := ParseMask([]string{name}); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestOfferHashFollowsItsContent(t *testing.T) {
	endpoint := Endpoint{URL: "wss://x/v1/opamp", ServerCA: []byte("ca")}
	one, err := endpoint.offer(issued{chain: []byte("c"), key: []byte("k")})
	if err != nil {
		t.Fatal(err)
	}
	same, _ := endpoint.offer(issued{chain: []byte("c"), key: []byte("k")})
	other, _ := endpoint.offer(issued{chain: []byte("c"), key: []byte("l")})
	if !bytes.Equal(one.GetHash(), same.GetHash()) || bytes.Equal(one.GetHash(), other.GetHash()) {
		t.Error("the hash does not follow the content")
	}
	system, _ := Endpoint{URL: "wss://x/v1/opamp"}.offer(issued{chain: []byte("c"), agentCA: []byte("agents")})
	if ca := system.GetOpamp().GetCertificate().GetCaCert(); len(ca) > 0 {
		t.Errorf("with the system's roots the agent is told to trust %q", ca)
	}
}

func TestAcceptsGzip(t *testing.T) {
	for accept, want := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "br, gzip;q=0.5": true, "gzip;q=0": false, "*": true, "deflate": false, "gzip;q=x": false, "xgzip": false,
	} {
		if got := acceptsGzip(accept); got != want {
			t.Errorf("%q: %v", accept, got)
		}
	}
}
