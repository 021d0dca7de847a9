// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/control/internal/auth"
	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// config makes a configuration with a first draft.
func (w *world) config(c clients, name, body string) *amporav1.CreateConfigResponse {
	w.t.Helper()
	return must(c.configs.CreateConfig(w.t.Context(), &amporav1.CreateConfigRequest{Name: name, Body: []byte(body)}))(w.t)
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
	id := w.config(operator, "a", "a: 1").GetConfig().GetId()
	update := func(revision int32, body string) (*amporav1.UpdateConfigVersionResponse, error) {
		return operator.configs.UpdateConfigVersion(t.Context(), &amporav1.UpdateConfigVersionRequest{
			ConfigId: id, Version: 1, Revision: revision, Body: []byte(body),
		})
	}
	second := must(update(1, "a: 2"))(t).GetVersion()
	if second.GetRevision() != 2 {
		t.Fatalf("%v", second)
	}
	_, err := update(1, "a: 3")
	refused(t, err, connect.CodeAborted, auth.ReasonChangedMeanwhile)

	publish := func(revision int32) (*amporav1.PublishConfigVersionResponse, error) {
		return operator.configs.PublishConfigVersion(t.Context(), &amporav1.PublishConfigVersionRequest{ConfigId: id, Version: 1, Revision: revision})
	}
	_, err = publish(1)
	refused(t, err, connect.CodeAborted, auth.ReasonChangedMeanwhile)
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
