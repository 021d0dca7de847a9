// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/collector"
	library "gitlab.com/ampora/ampora/control/internal/configs"
	"gitlab.com/ampora/ampora/control/internal/expression"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// config makes a configuration with a first draft.
func (w *world) config(c clients, name, body string) *amporav1.CreateConfigResponse {
	w.t.Helper()
	return must(c.configs.CreateConfig(w.t.Context(), &amporav1.CreateConfigRequest{Name: name, Body: []byte(body)}))(w.t)
}

// runnable is a configuration that every check passes, told apart by a mark in a comment.
func runnable(mark string) string {
	return "receivers: {nop: {}} # " + mark + "\nexporters: {nop: {}}\nservice: {pipelines: {traces: {receivers: [nop], exporters: [nop]}}}\n"
}

func TestBodiesComeBackByteForByte(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	for name, c := range map[string]struct {
		kind amporav1.ConfigKind
		body string
	}{
		"windows-line-ends": {0, "a: b\r\nc: d\r\n"},
		"trailing-blanks":   {0, "a: b   \n\n \t\n"},
		"byte-order-mark":   {0, "\xef\xbb\xbfa: b\n"},
		"no-line-end":       {0, "a: b"},
		"comments":          {0, "# ampora.name: x\na: b # c\n"},
		"empty-mapping":     {0, "{}"},
		"opaque":            {amporav1.ConfigKind_CONFIG_KIND_OPAQUE, "\x00\xff\r\n\x1b"},
		"opaque-and-empty":  {amporav1.ConfigKind_CONFIG_KIND_OPAQUE, ""},
		"opaque-and-long":   {amporav1.ConfigKind_CONFIG_KIND_OPAQUE, strings.Repeat("x", collector.MaxBytes)},
	} {
		request := &amporav1.CreateConfigRequest{Name: name, Kind: c.kind, Body: []byte(c.body)}
		created := must(operator.configs.CreateConfig(t.Context(), request))(t)
		sum := sha256.Sum256([]byte(c.body))
		if v := created.GetVersion(); v.GetContentHash() != hex.EncodeToString(sum[:]) || v.GetSize() != int64(len(c.body)) || v.GetVersion() != 1 {
			t.Errorf("%s: %v", name, v)
		}
		got := must(operator.configs.GetConfigVersionBody(t.Context(), &amporav1.GetConfigVersionBodyRequest{
			ConfigId: created.GetConfig().GetId(), Version: 1,
		}))(t)
		if !bytes.Equal(got.GetBody(), []byte(c.body)) {
			t.Errorf("%s: came back changed", name)
		}
	}
}

func TestBodyStandsSealed(t *testing.T) {
	w := newWorld(t)
	w.config(w.as(fleet.RoleOperator), "a", "password: hunter2")
	stored, err := w.store.Body(t.Context(), tenant, fleet.HashOf([]byte("password: hunter2")))
	if err != nil || bytes.Contains(stored.Sealed, []byte("hunter2")) {
		t.Fatalf("%v, %q", err, stored.Sealed)
	}
}

func TestCollectorBodiesMustBeMappings(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	_, err := operator.configs.CreateConfig(t.Context(), &amporav1.CreateConfigRequest{Name: "a", Body: []byte("- a")})
	refused(t, err, connect.CodeInvalidArgument, collector.ReasonNotMapping)
	if _, err := operator.configs.GetConfig(t.Context(), &amporav1.GetConfigRequest{Config: "a"}); connect.CodeOf(err) != connect.CodeNotFound {
		t.Errorf("the refused configuration is there: %v", err)
	}

	id := w.config(operator, "a", "a: b").GetConfig().GetId()
	_, err = operator.configs.CreateConfigVersion(t.Context(), &amporav1.CreateConfigVersionRequest{ConfigId: id, Body: []byte("a: b\nc:\n\td: e\n")})
	about := refused(t, err, connect.CodeInvalidArgument, collector.ReasonNotYAML)
	if about["line"] != "3" || about["column"] != "1" {
		t.Errorf("the place of the mistake is %v", about)
	}
	_, err = operator.configs.UpdateConfigVersion(t.Context(), &amporav1.UpdateConfigVersionRequest{ConfigId: id, Version: 1, Revision: 1, Body: nil})
	refused(t, err, connect.CodeInvalidArgument, collector.ReasonNotMapping)
	too := bytes.Repeat([]byte("#"), collector.MaxBytes+1)
	_, err = operator.configs.CreateConfigVersion(t.Context(), &amporav1.CreateConfigVersionRequest{ConfigId: id, Body: too})
	if _, named := refused(t, err, connect.CodeInvalidArgument, auth.ReasonInvalidField)["body"]; !named {
		t.Error("the field is not named")
	}
}

func TestDraftsUseOptimisticConcurrency(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	id := w.config(operator, "a", runnable("1")).GetConfig().GetId()
	update := func(revision int32, body string) (*amporav1.UpdateConfigVersionResponse, error) {
		return operator.configs.UpdateConfigVersion(t.Context(), &amporav1.UpdateConfigVersionRequest{
			ConfigId: id, Version: 1, Revision: revision, Body: []byte(body),
		})
	}
	second := must(update(1, runnable("2")))(t).GetVersion()
	if second.GetRevision() != 2 {
		t.Fatalf("%v", second)
	}
	_, err := update(1, "a: 3")
	now := refused(t, err, connect.CodeAborted, library.ReasonChanged)
	if now["revision"] != "2" || now["content_hash"] != second.GetContentHash() || now["changed_by"] != second.GetChangedBy() || now["changed_at"] == "" {
		t.Errorf("what is there now is said to be %v", now)
	}

	publish := func(revision int32) (*amporav1.PublishConfigVersionResponse, error) {
		return operator.configs.PublishConfigVersion(t.Context(), &amporav1.PublishConfigVersionRequest{ConfigId: id, Version: 1, Revision: revision})
	}
	_, err = publish(1)
	refused(t, err, connect.CodeAborted, library.ReasonChanged)
	published := must(publish(0))(t).GetVersion()
	if published.GetState() != amporav1.VersionState_VERSION_STATE_PUBLISHED || published.GetContentHash() != second.GetContentHash() {
		t.Errorf("published %v", published)
	}
	_, err = publish(0)
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonWrongState)
	_, err = update(2, "a: 4")
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonWrongState)

	archived := must(operator.configs.ArchiveConfigVersion(t.Context(), &amporav1.ArchiveConfigVersionRequest{ConfigId: id, Version: 1}))(t)
	if archived.GetVersion().GetState() != amporav1.VersionState_VERSION_STATE_ARCHIVED {
		t.Errorf("archived %v", archived)
	}
}

func TestAnOldVersionComesBackAsADraft(t *testing.T) {
	w := newWorld(t)
	operator, admin := w.as(fleet.RoleOperator), w.as(fleet.RoleAdmin)
	first := w.config(operator, "a", runnable("as it was")).GetVersion()
	id := first.GetConfigId()
	must(operator.configs.PublishConfigVersion(t.Context(), &amporav1.PublishConfigVersionRequest{ConfigId: id, Version: 1}))(t)
	must(operator.configs.CreateConfigVersion(t.Context(), &amporav1.CreateConfigVersionRequest{ConfigId: id, Body: []byte("a: 2")}))(t)
	must(operator.configs.ArchiveConfigVersion(t.Context(), &amporav1.ArchiveConfigVersionRequest{ConfigId: id, Version: 1}))(t)

	restored := must(operator.configs.RestoreConfigVersion(t.Context(), &amporav1.RestoreConfigVersionRequest{ConfigId: id, Version: 1}))(t).GetVersion()
	if restored.GetVersion() != 3 || restored.GetState() != amporav1.VersionState_VERSION_STATE_DRAFT || restored.GetRestoredFrom() != 1 ||
		restored.GetContentHash() != first.GetContentHash() || restored.GetNote() != "restored from version 1" {
		t.Errorf("restored %v", restored)
	}
	_, err := operator.configs.RestoreConfigVersion(t.Context(), &amporav1.RestoreConfigVersionRequest{ConfigId: id, Version: 4})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)

	unarchive := &amporav1.UnarchiveConfigVersionRequest{ConfigId: id, Version: 1}
	_, err = operator.configs.UnarchiveConfigVersion(t.Context(), unarchive)
	refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow)
	if v := must(admin.configs.UnarchiveConfigVersion(t.Context(), unarchive))(t).GetVersion(); v.GetState() != amporav1.VersionState_VERSION_STATE_PUBLISHED {
		t.Errorf("unarchived %v", v)
	}
	_, err = admin.configs.UnarchiveConfigVersion(t.Context(), unarchive)
	refused(t, err, connect.CodeFailedPrecondition, auth.ReasonWrongState)
}

func TestImportedBytesNameThemselves(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	imported := func(r *amporav1.ImportConfigRequest) *amporav1.ImportConfigResponse {
		return must(operator.configs.ImportConfig(t.Context(), r))(t)
	}
	named := &amporav1.ImportConfigRequest{Body: []byte("# ampora.name: edge \r\na: 1\n"), Note: "first"}
	created := imported(named)
	if created.GetConfig().GetName() != "edge" || created.GetVersion().GetVersion() != 1 || created.GetVersion().GetNote() != "first" || created.GetUnchanged() {
		t.Errorf("created %v", created)
	}
	if again := imported(named); !again.GetUnchanged() || again.GetVersion().GetVersion() != 1 {
		t.Errorf("the same once more: %v", again)
	}
	next := imported(&amporav1.ImportConfigRequest{Body: []byte("a: 2"), Name: "edge"})
	if next.GetConfig().GetId() != created.GetConfig().GetId() || next.GetVersion().GetVersion() != 2 || next.GetConfig().GetLatest() != 2 {
		t.Errorf("the next is %v", next)
	}
	if back := imported(named); back.GetUnchanged() || back.GetVersion().GetVersion() != 3 {
		t.Errorf("what was before is %v", back)
	}
	for reason, r := range map[string]*amporav1.ImportConfigRequest{
		library.ReasonUnnamed:        {Body: []byte("a: 1")},
		library.ReasonNamedOtherwise: {Body: named.GetBody(), Name: "core"},
		library.ReasonBadName:        {Body: []byte("# ampora.name: Edge!\na: 1")},
		collector.ReasonNotMapping:   {Body: []byte("# ampora.name: new\n- a")},
	} {
		_, err := operator.configs.ImportConfig(t.Context(), r)
		refused(t, err, connect.CodeInvalidArgument, reason)
	}
	_, err := operator.configs.ImportConfig(t.Context(), &amporav1.ImportConfigRequest{
		Body: []byte("a: 3"), Name: "edge", Kind: amporav1.ConfigKind_CONFIG_KIND_OPAQUE,
	})
	refused(t, err, connect.CodeFailedPrecondition, library.ReasonOtherKind)
	if list := must(operator.configs.ListConfigs(t.Context(), &amporav1.ListConfigsRequest{}))(t).GetConfigs(); len(list) != 1 {
		t.Errorf("there are %v", list)
	}
}

func TestConfigsAndVersionsAreFiltered(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	first := w.config(operator, "edge", runnable("1")).GetVersion()
	must(operator.configs.PublishConfigVersion(t.Context(), &amporav1.PublishConfigVersionRequest{ConfigId: first.GetConfigId(), Version: 1}))(t)
	w.config(operator, "core", "a: 1")
	if list := must(operator.configs.ListConfigs(t.Context(), &amporav1.ListConfigsRequest{Drafts: true}))(t).GetConfigs(); len(list) != 1 || list[0].GetName() != "core" {
		t.Errorf("with drafts: %v", list)
	}
	if list := must(operator.configs.ListConfigs(t.Context(), &amporav1.ListConfigsRequest{NamePrefix: "ed"}))(t).GetConfigs(); len(list) != 1 || list[0].GetName() != "edge" {
		t.Errorf("with a prefix: %v", list)
	}
	if list := must(operator.configs.ListConfigs(t.Context(), &amporav1.ListConfigsRequest{Kind: amporav1.ConfigKind_CONFIG_KIND_OPAQUE}))(t).GetConfigs(); len(list) != 0 {
		t.Errorf("of another kind: %v", list)
	}
	must(operator.configs.CreateConfigVersion(t.Context(), &amporav1.CreateConfigVersionRequest{ConfigId: first.GetConfigId(), Body: []byte("a: 2")}))(t)
	for name, r := range map[string]*amporav1.ListConfigVersionsRequest{
		"state": {State: amporav1.VersionState_VERSION_STATE_PUBLISHED}, "bytes": {ContentHash: first.GetContentHash()},
	} {
		r.ConfigId = first.GetConfigId()
		if list := must(operator.configs.ListConfigVersions(t.Context(), r))(t).GetVersions(); len(list) != 1 || list[0].GetVersion() != 1 {
			t.Errorf("by %s: %v", name, list)
		}
	}
}

func TestWhatTheCollectorRefusesIsNotPublished(t *testing.T) {
	w := newWorld(t)
	operator, viewer := w.as(fleet.RoleOperator), w.as(fleet.RoleViewer)
	broken := strings.Replace(runnable("x"), "exporters: [nop]", "exporters: [nop, missing]", 1)
	id := w.config(operator, "a", broken).GetConfig().GetId()
	stored := &amporav1.ConfigSource{Source: &amporav1.ConfigSource_Version_{Version: &amporav1.ConfigSource_Version{ConfigId: id, Version: 1}}}
	for name, source := range map[string]*amporav1.ConfigSource{"stored": stored, "bytes": {Source: &amporav1.ConfigSource_Body{Body: []byte(broken)}}} {
		checked := must(viewer.configs.CheckConfig(t.Context(), &amporav1.CheckConfigRequest{Source: source}))(t)
		found := slices.DeleteFunc(checked.GetFindings(), func(f *amporav1.ConfigFinding) bool {
			return f.GetSeverity() == amporav1.FindingSeverity_FINDING_SEVERITY_INFO
		})
		if checked.GetPublishable() || len(found) != 1 || found[0].GetRule() != "undefined-component" || found[0].GetLine() != 3 ||
			found[0].GetSeverity() != amporav1.FindingSeverity_FINDING_SEVERITY_ERROR || found[0].GetPath() == "" || found[0].GetFix() == "" {
			t.Errorf("%s: %v", name, checked)
		}
	}
	publish := func(waive ...string) (*amporav1.PublishConfigVersionResponse, error) {
		return operator.configs.PublishConfigVersion(t.Context(), &amporav1.PublishConfigVersionRequest{ConfigId: id, Version: 1, Waive: waive})
	}
	_, err := publish("no-pipelines")
	about := refused(t, err, connect.CodeInvalidArgument, library.ReasonRefused)
	if about["rules"] != "undefined-component" || about["errors"] != "1" || about["line"] != "3" {
		t.Errorf("it is said to be refused for %v", about)
	}
	for _, rule := range []string{"config-not-yaml", "no-such-rule"} {
		_, err = publish(rule)
		refused(t, err, connect.CodeInvalidArgument, library.ReasonNotWaivable)
	}
	v := must(publish("no-pipelines", "undefined-component"))(t).GetVersion()
	if v.GetState() != amporav1.VersionState_VERSION_STATE_PUBLISHED || len(v.GetWaived()) != 1 || v.GetWaived()[0] != "undefined-component" || v.GetSemanticHash() == "" {
		t.Errorf("published %v", v)
	}
}

func TestACheckLooksAtTheBuildsOfAnAudience(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	whole, lacking := w.agent(), w.agent()
	w.agent() // which says nothing
	nop := []fleet.Component{{Kind: "exporter", Name: "nop"}, {Kind: "receiver", Name: "nop"}}
	w.connect(whole, map[fleet.PartKind]any{fleet.PartComponents: fleet.Components{List: nop}})
	w.connect(lacking, map[fleet.PartKind]any{fleet.PartComponents: fleet.Components{List: nop[1:]}})
	source := &amporav1.ConfigSource{Source: &amporav1.ConfigSource_Body{Body: []byte(runnable("x"))}}
	check := func(a *amporav1.ConfigAudience) *amporav1.CheckConfigResponse {
		return must(operator.configs.CheckConfig(t.Context(), &amporav1.CheckConfigRequest{Source: source, Audience: a}))(t)
	}
	all := check(&amporav1.ConfigAudience{Audience: &amporav1.ConfigAudience_All{All: true}})
	if all.GetValidAgents() != 1 || all.GetInvalidAgents() != 1 || all.GetUnknownAgents() != 1 || len(all.GetBuilds()) != 3 || !all.GetPublishable() {
		t.Errorf("of all: %v", all)
	}
	one := check(&amporav1.ConfigAudience{Audience: &amporav1.ConfigAudience_AgentId{AgentId: string(lacking)}})
	if one.GetInvalidAgents() != 1 || len(one.GetBuilds()) != 1 || one.GetBuilds()[0].GetExampleAgentId() != string(lacking) ||
		len(one.GetBuilds()[0].GetMissing()) != 1 || one.GetBuilds()[0].GetMissing()[0].GetRule() != "missing-component" {
		t.Errorf("of one: %v", one)
	}
	if none := check(nil); none.GetBuilds() != nil {
		t.Errorf("of none: %v", none)
	}
}

func side(id string, version int32) *amporav1.ConfigSide {
	return &amporav1.ConfigSide{Side: &amporav1.ConfigSide_Version{Version: &amporav1.ConfigSource_Version{ConfigId: id, Version: version}}}
}

func TestConfigurationsAreCompared(t *testing.T) {
	w := newWorld(t)
	operator, viewer, admin := w.as(fleet.RoleOperator), w.as(fleet.RoleViewer), w.as(fleet.RoleAdmin)
	secret := strings.Replace(runnable("x"), "exporters: {nop: {}}", "exporters: {nop: {password: hunter2}}", 1)
	id := w.config(operator, "a", runnable("x")).GetConfig().GetId()
	must(operator.configs.CreateConfigVersion(t.Context(), &amporav1.CreateConfigVersionRequest{ConfigId: id, Body: []byte(secret)}))(t)
	must(operator.configs.CreateConfigVersion(t.Context(), &amporav1.CreateConfigVersionRequest{ConfigId: id, Body: []byte(runnable("y"))}))(t)

	compare := func(from, to *amporav1.ConfigSide) *amporav1.CompareConfigsResponse {
		return must(viewer.configs.CompareConfigs(t.Context(), &amporav1.CompareConfigsRequest{From: from, To: to}))(t)
	}
	if same := compare(side(id, 1), side(id, 1)); !same.GetSameBytes() || len(same.GetChanges()) != 0 {
		t.Errorf("the same: %v", same)
	}
	if alike := compare(side(id, 1), side(id, 3)); alike.GetSameBytes() || len(alike.GetChanges()) != 0 {
		t.Errorf("another comment: %v", alike)
	}
	changed := compare(side(id, 1), side(id, 2))
	if len(changed.GetChanges()) != 1 || changed.GetChanges()[0].GetPath() != "exporters::nop::password" || strings.Contains(changed.String(), "hunter2") {
		t.Errorf("a secret: %v", changed)
	}
	if given := compare(side(id, 2), &amporav1.ConfigSide{Side: &amporav1.ConfigSide_Body{Body: []byte(secret)}}); !given.GetSameBytes() {
		t.Errorf("the same as bytes: %v", given)
	}

	texts := &amporav1.DiffConfigTextsRequest{From: side(id, 1), To: side(id, 2)}
	_, err := viewer.configs.DiffConfigTexts(t.Context(), texts)
	refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow)
	unified := must(operator.configs.DiffConfigTexts(t.Context(), texts))(t).GetUnified()
	if !strings.HasPrefix(unified, "--- a@1\n+++ a@2\n") || !strings.Contains(unified, "+exporters: {nop: {password: hunter2}}\n") {
		t.Errorf("as text: %q", unified)
	}
	for _, entity := range []string{id + "/1", id + "/2"} {
		log := must(admin.audit.ListAuditEvents(t.Context(), &amporav1.ListAuditEventsRequest{EntityId: entity}))(t)
		if !slices.ContainsFunc(log.GetEvents(), func(e *amporav1.AuditEvent) bool { return e.GetAction() == "config.diff" }) {
			t.Errorf("of %s the log has %v", entity, log)
		}
	}

	opaque := must(operator.configs.CreateConfig(t.Context(), &amporav1.CreateConfigRequest{Name: "b", Kind: amporav1.ConfigKind_CONFIG_KIND_OPAQUE, Body: []byte("x")}))(t)
	_, err = viewer.configs.CompareConfigs(t.Context(), &amporav1.CompareConfigsRequest{From: side(id, 1), To: side(opaque.GetConfig().GetId(), 1)})
	refused(t, err, connect.CodeFailedPrecondition, library.ReasonOpaque)
	for reason, to := range map[string]*amporav1.ConfigSide{
		library.ReasonNotAssigned: {Side: &amporav1.ConfigSide_AssignedToAgent{AssignedToAgent: string(w.agent())}},
		library.ReasonNotReported: {Side: &amporav1.ConfigSide_EffectiveOnAgent{EffectiveOnAgent: string(w.agent())}},
	} {
		_, err := viewer.configs.CompareConfigs(t.Context(), &amporav1.CompareConfigsRequest{From: side(id, 1), To: to})
		code := connect.CodeFailedPrecondition
		if reason == library.ReasonNotReported {
			code = connect.CodeNotFound
		}
		refused(t, err, code, reason)
	}
}

func TestWhatAnAgentRunsIsComparedAsItIsReported(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	id := w.config(operator, "a", runnable("x")).GetConfig().GetId()
	agent, body := w.agent(), []byte(strings.Replace(runnable("x"), "receivers: {nop: {}}", "receivers: {nop: {filled: in}}", 1))
	w.connect(agent, map[fleet.PartKind]any{fleet.PartEffectiveConfig: fleet.EffectiveConfig{
		Files: []fleet.ConfigFile{{Hash: fleet.HashOf(body), Size: int64(len(body))}},
	}}, body)
	runs := &amporav1.ConfigSide{Side: &amporav1.ConfigSide_EffectiveOnAgent{EffectiveOnAgent: string(agent)}}
	compare := func(from, to *amporav1.ConfigSide) []*amporav1.ConfigChange {
		return must(operator.configs.CompareConfigs(t.Context(), &amporav1.CompareConfigsRequest{From: from, To: to}))(t).GetChanges()
	}
	if changes := compare(side(id, 1), runs); len(changes) != 0 {
		t.Errorf("what was filled in is said to be a difference: %v", changes)
	}
	if changes := compare(runs, side(id, 1)); len(changes) != 1 {
		t.Errorf("the other way round: %v", changes)
	}
}

func TestWhatAnAgentWouldGetIsRendered(t *testing.T) {
	w := newWorld(t)
	operator, admin := w.as(fleet.RoleOperator), w.as(fleet.RoleAdmin)
	body := strings.Replace(runnable("x"), "exporters: {nop: {}}", `exporters: {nop: {id: "${ampora:agent:id}", region: "${ampora:tag:region:-eu}"}}`, 1)
	v := w.config(operator, "a", body).GetVersion()
	if !v.GetTemplated() {
		t.Errorf("it is no template: %v", v)
	}
	agent := string(w.agent())
	source := &amporav1.ConfigSource{Source: &amporav1.ConfigSource_Version_{Version: &amporav1.ConfigSource_Version{ConfigId: v.GetConfigId(), Version: 1}}}
	got := must(operator.configs.RenderConfig(t.Context(), &amporav1.RenderConfigRequest{Source: source, AgentId: agent}))(t).GetBody()
	if !strings.Contains(string(got), `{nop: {id: "`+agent+`", region: "eu"}}`) {
		t.Errorf("rendered is %q", got)
	}
	log := must(admin.audit.ListAuditEvents(t.Context(), &amporav1.ListAuditEventsRequest{EntityId: v.GetConfigId() + "/1"}))(t)
	if !slices.ContainsFunc(log.GetEvents(), func(e *amporav1.AuditEvent) bool { return e.GetAction() == "config.render" }) {
		t.Errorf("the log has %v", log)
	}
	given := func(text string) *amporav1.RenderConfigRequest {
		return &amporav1.RenderConfigRequest{Source: &amporav1.ConfigSource{Source: &amporav1.ConfigSource_Body{Body: []byte(text)}}, AgentId: agent}
	}
	if plain := must(operator.configs.RenderConfig(t.Context(), given("a: 1")))(t).GetBody(); string(plain) != "a: 1" {
		t.Errorf("what is no template became %q", plain)
	}
	_, err := operator.configs.RenderConfig(t.Context(), given("a: ${ampora:tag:none}"))
	refused(t, err, connect.CodeInvalidArgument, collector.ReasonTemplateValue)
	_, err = operator.configs.RenderConfig(t.Context(), given("a: ${ampora:none}"))
	refused(t, err, connect.CodeInvalidArgument, collector.ReasonTemplateInvalid)
	nobody := given("a: ${ampora:agent:id}")
	nobody.AgentId = "01890000-0000-7000-8000-000000000000"
	_, err = operator.configs.RenderConfig(t.Context(), nobody)
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}

func TestATenantsOwnRules(t *testing.T) {
	w := newWorld(t)
	operator, admin := w.as(fleet.RoleOperator), w.as(fleet.RoleAdmin)
	rule := &amporav1.ConfigRule{
		Id: "no-nop", Severity: amporav1.FindingSeverity_FINDING_SEVERITY_ERROR, Expression: `"nop" in config.exporters`, Message: "nop loses everything", Fix: "send it somewhere",
	}
	_, err := operator.configRules.PutConfigRule(t.Context(), &amporav1.PutConfigRuleRequest{Rule: rule})
	refused(t, err, connect.CodePermissionDenied, auth.ReasonRoleTooLow)
	put := must(admin.configRules.PutConfigRule(t.Context(), &amporav1.PutConfigRuleRequest{Rule: rule}))(t).GetRule()
	if put.GetChangedBy() == "" || put.GetExpression() != rule.GetExpression() || put.GetSeverity() != rule.GetSeverity() {
		t.Errorf("put is %v", put)
	}
	v := w.config(operator, "a", runnable("x")).GetVersion()
	publish := &amporav1.PublishConfigVersionRequest{ConfigId: v.GetConfigId(), Version: 1}
	_, err = operator.configs.PublishConfigVersion(t.Context(), publish)
	if about := refused(t, err, connect.CodeInvalidArgument, library.ReasonRefused); about["rules"] != "no-nop" {
		t.Errorf("it is said to be refused for %v", about)
	}
	publish.Waive = []string{"no-nop"}
	_, err = operator.configs.PublishConfigVersion(t.Context(), publish)
	refused(t, err, connect.CodeInvalidArgument, library.ReasonNotWaivable)

	for reason, change := range map[string]func(*amporav1.ConfigRule){
		expression.ReasonInvalid: func(r *amporav1.ConfigRule) { r.Expression = "config.receiver" },
		expression.ReasonTooCostly: func(r *amporav1.ConfigRule) {
			r.Expression = "config.components.all(a, config.components.all(b, config.components.all(c, config.components.all(d, a == b || c == d))))"
		},
	} {
		bad := proto.CloneOf(rule)
		change(bad)
		_, err := admin.configRules.PutConfigRule(t.Context(), &amporav1.PutConfigRuleRequest{Rule: bad})
		refused(t, err, connect.CodeInvalidArgument, reason)
	}
	taken := proto.CloneOf(rule)
	taken.Id = "undefined-component"
	_, err = admin.configRules.PutConfigRule(t.Context(), &amporav1.PutConfigRuleRequest{Rule: taken})
	refused(t, err, connect.CodeAlreadyExists, library.ReasonRuleTaken)

	rule.Severity = amporav1.FindingSeverity_FINDING_SEVERITY_WARNING
	must(admin.configRules.PutConfigRule(t.Context(), &amporav1.PutConfigRuleRequest{Rule: rule}))(t)
	publish.Waive = nil
	must(operator.configs.PublishConfigVersion(t.Context(), publish))(t)
	if rules := must(operator.configRules.ListConfigRules(t.Context(), &amporav1.ListConfigRulesRequest{}))(t).GetRules(); len(rules) != 1 || rules[0].GetSeverity() != rule.GetSeverity() {
		t.Errorf("there are %v", rules)
	}
	must(admin.configRules.DeleteConfigRule(t.Context(), &amporav1.DeleteConfigRuleRequest{Id: "no-nop"}))(t)
	_, err = admin.configRules.DeleteConfigRule(t.Context(), &amporav1.DeleteConfigRuleRequest{Id: "no-nop"})
	refused(t, err, connect.CodeNotFound, auth.ReasonNotFound)
}

func TestRevealingIsAudited(t *testing.T) {
	w := newWorld(t)
	operator, admin := w.as(fleet.RoleOperator), w.as(fleet.RoleAdmin)
	id := w.config(operator, "a", "a: b").GetConfig().GetId()
	must(operator.configs.GetConfigVersionBody(t.Context(), &amporav1.GetConfigVersionBodyRequest{ConfigId: id, Version: 1}))(t)
	log := must(admin.audit.ListAuditEvents(t.Context(), &amporav1.ListAuditEventsRequest{EntityId: id + "/1"}))(t)
	for _, e := range log.GetEvents() {
		if e.GetAction() == "config_version.reveal" && e.GetActorKind() == "api_token" && e.GetSourceAddress() == "127.0.0.1" {
			return
		}
	}
	t.Errorf("the log has %v", log)
}

func TestConfigsAndVersionsAreListed(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	var id string
	for _, name := range []string{"c", "a", "b"} {
		id = w.config(operator, name, "a: b").GetConfig().GetId()
	}
	must(operator.configs.CreateConfigVersion(t.Context(), &amporav1.CreateConfigVersionRequest{ConfigId: id, Body: []byte("a: c"), Note: "n"}))(t)

	var names []string
	for token := ""; ; {
		page := must(operator.configs.ListConfigs(t.Context(), &amporav1.ListConfigsRequest{PageSize: 2, PageToken: token}))(t)
		for _, c := range page.GetConfigs() {
			names = append(names, c.GetName())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if strings.Join(names, "") != "abc" {
		t.Errorf("pages hold %v", names)
	}
	versions := must(operator.configs.ListConfigVersions(t.Context(), &amporav1.ListConfigVersionsRequest{ConfigId: id}))(t).GetVersions()
	if len(versions) != 2 || versions[0].GetVersion() != 2 || versions[0].GetNote() != "n" {
		t.Errorf("versions are %v", versions)
	}
}

func TestPageTokensOfOthersAreRefused(t *testing.T) {
	w := newWorld(t)
	operator := w.as(fleet.RoleOperator)
	w.config(operator, "a", "a: b")
	w.config(operator, "b", "a: b")
	token := must(operator.configs.ListConfigs(t.Context(), &amporav1.ListConfigsRequest{PageSize: 1}))(t).GetNextPageToken()
	if token == "" {
		t.Fatal("no second page")
	}
	for _, foreign := range []string{token, "x", "AAAA"} {
		_, err := operator.groups.ListGroups(t.Context(), &amporav1.ListGroupsRequest{PageToken: foreign})
		refused(t, err, connect.CodeInvalidArgument, "PAGE_TOKEN_INVALID")
	}
}
