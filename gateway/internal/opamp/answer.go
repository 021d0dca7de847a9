// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package opamp

import (
	"fmt"
	"strings"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/gateway/internal/relay"
	"gitlab.com/ampora/ampora/gateway/internal/session"
	"gitlab.com/ampora/ampora/shared/identity"
)

// answer is a ServerToAgent in the making. Every AgentToServer gets one, at least with
// the uid it came with; nothing in it asks for a report unless something is missing,
// because a report is answered again.
type answer struct {
	uid     identity.InstanceUID
	unnamed bool                     // the uid is not known
	more    *protobufs.ServerToAgent // what it says besides; nil, as to most heartbeats, for nothing
}

// newAnswer begins an answer to the uid as the agent wrote it.
func newAnswer(uid identity.InstanceUID) answer { return answer{uid: uid} }

// toNobody begins an answer to whoever did not say a uid.
func toNobody() answer { return answer{unnamed: true} }

// saying is the answer with something to write into.
func (a answer) saying() answer {
	if a.more == nil {
		a.more = &protobufs.ServerToAgent{}
	}
	return a
}

// greet says what this server can do. It stands in the first answer of a session, with
// our (empty) set of custom capabilities.
func (a answer) greet() answer {
	a = a.saying()
	a.more.Capabilities = uint64(serverCapabilities)
	a.more.CustomCapabilities = &protobufs.CustomCapabilities{}
	return a
}

// askFullState asks for everything the agent knows of itself.
func (a answer) askFullState() answer {
	a = a.saying()
	a.more.Flags |= uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportFullState)
	return a
}

// askComponents asks for the list of what the agent is built of.
func (a answer) askComponents() answer {
	a = a.saying()
	a.more.Flags |= uint64(protobufs.ServerToAgentFlags_ServerToAgentFlags_ReportAvailableComponents)
	return a
}

// badRequest says what was wrong with the message.
func (a answer) badRequest(format string, args ...any) answer {
	return a.fail(&protobufs.ServerErrorResponse{
		Type:         protobufs.ServerErrorResponseType_ServerErrorResponseType_BadRequest,
		ErrorMessage: strings.ToValidUTF8(fmt.Sprintf(format, args...), "?"),
	})
}

// unavailable says that the message was not taken, and when to come back.
func (a answer) unavailable() answer {
	return a.fail(&protobufs.ServerErrorResponse{
		Type:         protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable,
		ErrorMessage: "the server is busy",
		Details:      &protobufs.ServerErrorResponse_RetryInfo{RetryInfo: &protobufs.RetryInfo{RetryAfterNanoseconds: uint64(retryTime)}},
	})
}

// fail makes the answer an error and nothing else: beside one all other fields but the
// uid must be empty (specification, "ServerErrorResponse").
func (a answer) fail(because *protobufs.ServerErrorResponse) answer {
	a.more = &protobufs.ServerToAgent{ErrorResponse: because}
	return a
}

// failed says that the answer is an error; nothing may be added to it.
func (a answer) failed() bool { return a.more.GetErrorResponse() != nil }

// settings offers connection settings.
func (a answer) settings(offers *protobufs.ConnectionSettingsOffers) answer {
	a = a.saying()
	a.more.ConnectionSettings = offers
	return a
}

// restart asks the agent to restart. Nothing else may stand beside it.
func (a answer) restart() answer {
	a.more = &protobufs.ServerToAgent{Command: &protobufs.ServerToAgentCommand{Type: protobufs.CommandType_CommandType_Restart}}
	return a
}

// sending is what is offered with an answer.
type sending struct {
	config   *session.ConfigOffer
	settings *session.SettingsOffer
	restart  *session.RestartCommand
	left     bool // there is mail that could not go along
}

func (s sending) any() bool { return s.config != nil || s.settings != nil || s.restart != nil }

// append appends the serialised answer, together with offers that were rendered before,
// if there are any: protobuf messages merge when their bytes are joined, so a configuration
// for a thousand agents is serialised once.
func (a answer) append(dst []byte, sent sending) []byte {
	if !a.unnamed {
		dst = protowire.AppendTag(dst, uidField, protowire.BytesType) // of ServerToAgent as well
		dst = protowire.AppendBytes(dst, a.uid[:])
	}
	if a.more != nil {
		// It can hold no text that is not valid: all of it is ours.
		dst, _ = proto.MarshalOptions{}.MarshalAppend(dst, a.more)
	}
	if sent.config != nil {
		dst = append(dst, sent.config.Wire...)
	}
	if sent.settings != nil {
		dst = append(dst, sent.settings.Wire...)
	}
	return dst
}

// RenderConfig makes the part of a ServerToAgent that offers a remote configuration.
func RenderConfig(hash []byte, entries []relay.Entry) ([]byte, error) {
	config := make(map[string]*protobufs.AgentConfigObject, len(entries))
	for _, entry := range entries {
		config[entry.Name] = &protobufs.AgentConfigObject{Body: entry.Body, ContentType: entry.ContentType}
	}
	return proto.Marshal(&protobufs.ServerToAgent{RemoteConfig: &protobufs.AgentRemoteConfig{
		Config:     &protobufs.AgentConfigMap{ConfigMap: config},
		ConfigHash: hash,
	}})
}

// says that there is more in the answer than its uid.
func (a answer) says() bool { return a.more.GetFlags() != 0 || a.failed() }
