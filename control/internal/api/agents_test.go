// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gitlab.com/ampora/ampora/control/internal/api"
	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/identity"
)

// agent enrols an agent.
func (w *world) agent() fleet.AgentID {
	w.t.Helper()
	id, token := newID[fleet.AgentID](), newID[fleet.TokenID]()
	secret := identity.NewToken(identity.BootstrapToken)
	err := w.store.IssueBootstrapToken(w.t.Context(), w.by(), fleet.BootstrapToken{
		ID: token, Tenant: tenant, Hash: secret.Hash(), CreatedBy: "test", CreatedAt: w.now(), ExpiresAt: w.now().Add(time.Hour),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	err = errors.Join(w.store.Redeem(w.t.Context(), []store.Redemption{{
		By: w.by(), Token: token, Agent: id, Method: fleet.EnrolledByEST,
		Certificate: fleet.Certificate{
			Tenant: tenant, Serial: serialOf(id), Fingerprint: fleet.Fingerprint(id), Agent: id, Key: "key",
			NotBefore: w.now(), NotAfter: w.now().Add(24 * time.Hour), DER: []byte("der"), ChainPEM: []byte("pem"), CreatedAt: w.now(),
		},
	}})...)
	if err != nil {
		w.t.Fatal(err)
	}
	return id
}

func (w *world) agents(n int) (ids []string) {
	for range n {
		ids = append(ids, string(w.agent()))
	}
	return ids
}

func serialOf(id fleet.AgentID) fleet.Serial { return fleet.Serial("5e" + string(id[len(id)-12:])) }

func uidOf(id fleet.AgentID) fleet.InstanceUID {
	hash := fleet.HashOf([]byte(id))
	return fleet.InstanceUID(hash[:16])
}

// gateway is what agents are connected to, in its boot.
const (
	gateway = fleet.GatewayID("gateway")
	boot    = uint64(7)
)

// connect opens a session of the agent and records what it says.
func (w *world) connect(id fleet.AgentID, parts map[fleet.PartKind]any, bodies ...[]byte) {
	w.t.Helper()
	ctx, now := w.t.Context(), w.now()
	if err := w.store.RegisterGateway(ctx, fleet.Gateway{ID: gateway, BootID: boot, StartedAt: now, LeaseUntil: now.Add(time.Minute)}); err != nil {
		w.t.Fatal(err)
	}
	results, err := w.store.Claim(ctx, []fleet.Claim{{
		Tenant: tenant, Identity: id, Serial: serialOf(id), Fingerprint: fleet.Fingerprint(id), UID: uidOf(id),
		Gateway: gateway, BootID: boot, Transport: fleet.TransportWebSocket, Peer: "192.0.2.7:1", At: now,
	}})
	if err != nil || results[0].Outcome != fleet.ClaimClaimed {
		w.t.Fatalf("%+v, %v", results, err)
	}
	w.says(id, fleet.Stamp{Epoch: results[0].Epoch, Sequence: 1}, parts, bodies...)
}

// says records what a connected agent says.
func (w *world) says(id fleet.AgentID, stamp fleet.Stamp, parts map[fleet.PartKind]any, bodies ...[]byte) {
	w.t.Helper()
	ctx, now := w.t.Context(), w.now()
	hashes, err := w.content.Put(ctx, tenant, now, bodies...)
	if err != nil {
		w.t.Fatal(err)
	}
	report := &fleet.Report{Tenant: tenant, Agent: id, Gateway: gateway, BootID: boot, Stamp: stamp, At: now, Bodies: hashes}
	if said, ok := parts[fleet.PartCapabilities].(fleet.CapabilitySet); ok {
		accepts := slices.Contains(said.Names, "AcceptsRemoteConfig")
		report.Summary.AcceptsConfig = &accepts
	}
	for kind, said := range parts {
		value, err := json.Marshal(said)
		if err != nil {
			w.t.Fatal(err)
		}
		report.Parts = append(report.Parts, fleet.Part{Kind: kind, Stamp: stamp, At: now, Value: value, Raw: []byte{}, Digest: string(value)})
	}
	lease, err := w.store.AcquirePartition(ctx, 0, "test", now)
	if err != nil {
		w.t.Fatal(err)
	}
	recorded, err := w.store.Record(ctx, store.Record{Lease: lease, Position: "1", Uplinks: []fleet.Uplink{{Report: report}}, At: now})
	if err != nil || recorded.Applied != 1 {
		w.t.Fatalf("%+v, %v", recorded, err)
	}
}

func TestAgentIsShownWhole(t *testing.T) {
	w := newWorld(t)
	id := w.agent()
	body := []byte("exporters: {}\r\n")
	started := w.now().Add(-time.Hour)
	w.connect(id, map[fleet.PartKind]any{
		fleet.PartDescription: fleet.Description{
			Identifying:    []fleet.Attribute{{Key: "service.name", Value: json.RawMessage(`"otelcol"`)}},
			NonIdentifying: []fleet.Attribute{{Key: "cores", Value: json.RawMessage(`4`)}, {Key: "tags", Value: json.RawMessage(`["a",true,null,{"b":1.5}]`)}},
		},
		fleet.PartCapabilities: fleet.CapabilitySet{Bits: 3, Names: []string{"ReportsStatus", "AcceptsRemoteConfig"}},
		fleet.PartHealth: fleet.Health{Healthy: true, StartTime: started, Components: map[string]fleet.Health{
			"pipeline:traces": {Status: "StatusOK", Healthy: true},
		}},
		fleet.PartEffectiveConfig:    fleet.EffectiveConfig{Files: []fleet.ConfigFile{{Hash: fleet.HashOf(body), Size: int64(len(body)), ContentType: "text/yaml"}}},
		fleet.PartRemoteConfigStatus: fleet.RemoteConfigStatus{LastOffer: []byte{0xab}, State: fleet.ConfigFailed, Error: "no"},
		fleet.PartPackageStatuses:    []fleet.PackageStatus{{Name: "collector", HasVersion: "1"}},
		fleet.PartComponents:         fleet.Components{Hash: []byte{0xcd}, List: []fleet.Component{{Kind: "receiver", Name: "otlp"}}},
		fleet.PartCustomCapabilities: []string{"org.example.x"},
		fleet.PartCustomMessage:      map[string]string{"not": "shown"},
	}, body)

	viewer := w.as(fleet.RoleViewer)
	a := must(viewer.agents.GetAgent(t.Context(), &amporav1.GetAgentRequest{Id: string(id)}))(t).GetAgent()
	tags := a.GetDescription().GetNonIdentifying()[1].GetValue().GetListValue().GetValues()
	for what, ok := range map[string]bool{
		"presence":     a.GetPresence() == amporav1.Presence_PRESENCE_ONLINE,
		"session":      a.GetSession().GetTransport() == amporav1.Transport_TRANSPORT_WEBSOCKET && a.GetSession().GetEpoch() == 1,
		"attribute":    a.GetDescription().GetIdentifying()[0].GetValue().GetStringValue() == "otelcol",
		"number":       a.GetDescription().GetNonIdentifying()[0].GetValue().GetNumberValue() == 4,
		"list":         len(tags) == 4 && tags[1].GetBoolValue() && tags[3].GetStructValue().GetFields()["b"].GetNumberValue() == 1.5,
		"capabilities": len(a.GetCapabilities()) == 2,
		"health":       a.GetHealth().GetComponents()["pipeline:traces"].GetStatus() == "StatusOK" && a.GetHealth().GetStartTime().AsTime().Equal(started),
		"effective":    len(a.GetEffectiveConfig().GetFiles()) == 1 && a.GetEffectiveConfig().GetFiles()[0].GetContentHash() == fleet.HashOf(body).String(),
		"status":       a.GetRemoteConfigStatus().GetState() == amporav1.ConfigState_CONFIG_STATE_FAILED && a.GetRemoteConfigStatus().GetLastOfferHash() == "ab",
		"packages":     a.GetPackages()[0].GetName() == "collector",
		"components":   a.GetAvailableComponents().GetHash() == "cd" && a.GetAvailableComponents().GetComponents()[0].GetName() == "otlp",
		"custom":       len(a.GetCustomCapabilities()) == 1,
		"credential":   a.GetCredential().GetSpiffeId() == "spiffe://fleet.example.com/tenant/default/agent/"+string(id),
		"delivery":     a.GetConfigDelivery().GetState() == amporav1.DeliveryState_DELIVERY_STATE_NONE,
		"uid":          a.GetInstanceUid() == uidOf(id).String(),
	} {
		if !ok {
			t.Errorf("%s is wrong in %v", what, a)
		}
	}
	listed := must(viewer.agents.ListAgents(t.Context(), &amporav1.ListAgentsRequest{}))(t).GetAgents()
	if len(listed) != 1 || listed[0].GetId() != string(id) || listed[0].GetDescription() != nil {
		t.Errorf("the list has %v", listed)
	}
	w.pass(2 * time.Minute) // past the lease of the gateway
	a = must(viewer.agents.GetAgent(t.Context(), &amporav1.GetAgentRequest{Id: string(id)}))(t).GetAgent()
	if a.GetPresence() != amporav1.Presence_PRESENCE_UNKNOWN {
		t.Errorf("without its gateway the agent is %v", a.GetPresence())
	}
	w.checkEffectiveConfig(id, body)
}

func (w *world) checkEffectiveConfig(id fleet.AgentID, body []byte) {
	w.t.Helper()
	operator, admin := w.as(fleet.RoleOperator), w.as(fleet.RoleAdmin)
	revealed := must(operator.agents.GetEffectiveConfig(w.t.Context(), &amporav1.GetEffectiveConfigRequest{Id: string(id)}))(w.t)
	if len(revealed.GetFiles()) != 1 || string(revealed.GetFiles()[0].GetBody()) != string(body) {
		w.t.Errorf("revealed %v", revealed)
	}
	log := must(admin.audit.ListAuditEvents(w.t.Context(), &amporav1.ListAuditEventsRequest{EntityId: string(id)}))(w.t)
	if newest := log.GetEvents()[0]; newest.GetAction() != "agent.reveal_effective_config" {
		w.t.Errorf("the log's newest line is %v", newest)
	}
}

func TestAgentsThatAreNotThere(t *testing.T) {
	w := newWorld(t)
	silent, admin := w.agent(), w.as(fleet.RoleAdmin)
	_, err := admin.agents.GetEffectiveConfig(t.Context(), &amporav1.GetEffectiveConfigRequest{Id: string(silent)})
	refused(t, err, connect.CodeNotFound, api.ReasonNotReported)
	nobody := string(newID[fleet.AgentID]())
	_, err = admin.agents.GetAgent(t.Context(), &amporav1.GetAgentRequest{Id: nobody})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	_, err = admin.agents.RetryConfig(t.Context(), &amporav1.RetryConfigRequest{Id: nobody})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	_, err = admin.agents.AllowChildren(t.Context(), &amporav1.AllowChildrenRequest{Id: nobody, MaxChildren: 1})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
	allowed := must(admin.agents.AllowChildren(t.Context(), &amporav1.AllowChildrenRequest{Id: string(silent), MaxChildren: 7}))(t)
	if allowed.GetAgent().GetMaxChildren() != 7 {
		t.Errorf("allowed %v", allowed)
	}
	if cleared := must(admin.agents.RetryConfig(t.Context(), &amporav1.RetryConfigRequest{Id: string(silent)}))(t).GetCleared(); cleared != 0 {
		t.Errorf("cleared %d attempts of an agent without any", cleared)
	}
}

func TestAgentsAreSearchedAndCounted(t *testing.T) {
	w := newWorld(t)
	id := w.agent()
	w.agents(2)
	w.connect(id, nil)
	viewer := w.as(fleet.RoleViewer)
	for name, c := range map[string]struct {
		filter *amporav1.AgentFilter
		want   int
	}{
		"all":       {nil, 3},
		"gateway":   {&amporav1.AgentFilter{GatewayId: "gateway"}, 1},
		"method":    {&amporav1.AgentFilter{EnrolmentMethod: amporav1.EnrolmentMethod_ENROLMENT_METHOD_EST}, 3},
		"an id":     {&amporav1.AgentFilter{Text: " " + string(id) + " "}, 1},
		"enrolment": {&amporav1.AgentFilter{EnrolledBefore: timestamppb.New(w.now().Add(-time.Hour))}, 0},
		"bits":      {&amporav1.AgentFilter{Capabilities: []string{"ReportsStatus", "AcceptsRestartCommand"}}, 0},
		"expiry":    {&amporav1.AgentFilter{CertificateExpiresBefore: timestamppb.New(w.now().Add(48 * time.Hour))}, 1},
	} {
		listed := must(viewer.agents.ListAgents(t.Context(), &amporav1.ListAgentsRequest{Filter: c.filter}))(t).GetAgents()
		counted := must(viewer.agents.CountAgents(t.Context(), &amporav1.CountAgentsRequest{Filter: c.filter}))(t)
		if len(listed) != c.want || int(counted.GetCount()) != c.want || counted.GetMore() {
			t.Errorf("%s: %d are listed, %v counted, want %d", name, len(listed), counted, c.want)
		}
	}
	for name, filter := range map[string]*amporav1.AgentFilter{
		"a capability":     {Capabilities: []string{"Flies"}},
		"nine words":       {Text: "a b c d e f g h i"},
		"only the version": {ConfigVersion: 2},
	} {
		_, err := viewer.agents.CountAgents(t.Context(), &amporav1.CountAgentsRequest{Filter: filter})
		if connect.CodeOf(err) != connect.CodeInvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAgentsHaveAHistory(t *testing.T) {
	w := newWorld(t)
	id := w.agent()
	w.connect(id, nil)
	operator := w.as(fleet.RoleOperator)
	must(operator.bulk.TagAgents(t.Context(), &amporav1.TagAgentsRequest{Targets: named(string(id)), Set: map[string]string{"a": "b"}}))(t)
	history := func(r *amporav1.ListAgentHistoryRequest) (kinds []amporav1.HistoryKind) {
		r.Id = string(id)
		for _, entry := range must(operator.agents.ListAgentHistory(t.Context(), r))(t).GetEntries() {
			kinds = append(kinds, entry.GetKind())
		}
		return kinds
	}
	const tagged, connected, enrolled = amporav1.HistoryKind_HISTORY_KIND_OPERATORS, amporav1.HistoryKind_HISTORY_KIND_CONNECTION, amporav1.HistoryKind_HISTORY_KIND_IDENTITY
	if got := history(&amporav1.ListAgentHistoryRequest{}); !slices.Equal(got, []amporav1.HistoryKind{tagged, connected, enrolled}) {
		t.Errorf("the history is %v", got)
	}
	if got := history(&amporav1.ListAgentHistoryRequest{Kinds: []amporav1.HistoryKind{connected, tagged}}); !slices.Equal(got, []amporav1.HistoryKind{tagged, connected}) {
		t.Errorf("of two kinds it is %v", got)
	}
	if got := history(&amporav1.ListAgentHistoryRequest{Until: timestamppb.New(w.now().Add(-time.Hour))}); len(got) != 0 {
		t.Errorf("before, it was %v", got)
	}
	_, err := operator.agents.ListAgentHistory(t.Context(), &amporav1.ListAgentHistoryRequest{Id: "01890a5d-ac96-774b-bcce-b302099a8057"})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}
