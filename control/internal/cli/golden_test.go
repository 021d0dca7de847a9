// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect/v2"

	"gitlab.com/ampora/ampora/shared/identity"
)

var update = flag.Bool("update", false, "write the golden files")

// check compares with testdata/golden/<name>, or writes it.
func check(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", "golden", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (run the test with -update to accept):\n--- got\n%s--- want\n%s", file, got, want)
	}
}

func TestOutputs(t *testing.T) {
	underWay := refuse(connect.CodeFailedPrecondition, "ROLLOUT_ACTIVE", "rollout 7 of edge@1 is paused in the group", map[string]string{"rollout": rolloutEdge})
	cases := []struct {
		name, command, stdin string
		fail                 error
	}{
		{name: "agents-list", command: "agents list"},
		{name: "agents-list-group", command: "agents list --group edge --presence online --label a=b"},
		{name: "agents-list-limit", command: "agents list --limit 1"},
		{name: "agents-list-json", command: "agents list -o json"},
		{name: "agents-list-yaml", command: "agents list -o yaml"},
		{name: "agents-list-presence", command: "agents list --presence asleep"},
		{name: "agents-list-search", command: "agents list --search web-1 --config edge@1 --state applied --capability AcceptsRemoteConfig --enrolled-after -2d"},
		{name: "agents-list-time", command: "agents list --certificate-expires-before soon"},
		{name: "agents-count", command: "agents count --presence offline --enrolled-by est"},
		{name: "agents-count-more", command: "agents count"},
		{name: "agents-history", command: "agents history web-1"},
		{name: "agents-history-kind", command: "agents history web-1 --kind connection,packages --from -24h -o json"},
		{name: "agents-history-wrong", command: "agents history web-1 --kind mood"},
		{name: "agents-get", command: "agents get web-1"},
		{name: "agents-get-evil", command: "agents get web-3"},
		{name: "agents-get-display", command: "agents get otelcol@web-2"},
		{name: "agents-get-prefix", command: "agents get 01890000-0000-7000-8000-0000000000e"},
		{name: "agents-get-ambiguous", command: "agents get 018900"},
		{name: "agents-get-unknown", command: "agents get nobody"},
		{name: "agents-get-unknown-id", command: "agents get 01890000-0000-7000-8000-00000000dead"},
		{name: "agents-effective-config", command: "agents effective-config web-1"},
		{name: "agents-effective-config-several", command: "agents effective-config web-2"},
		{name: "agents-effective-config-file", command: "agents effective-config web-2 --file raw"},
		{name: "agents-effective-config-no-file", command: "agents effective-config web-2 --file other"},
		{name: "agents-effective-config-json", command: "agents effective-config web-1 -o json"},
		{name: "agents-retry", command: "agents retry web-1"},
		{name: "agents-allow-children", command: "agents allow-children web-1 --max 5"},
		{name: "agents-allow-children-rules", command: "agents allow-children web-1 --max 10001"},
		{name: "agents-allow-children-flag", command: "agents allow-children web-1"},
		{name: "agents-tag", command: "agents tag web-1 site=berlin canary-"},
		{name: "agents-tag-json", command: "agents tag web-1 web-2 site=berlin -o json"},
		{name: "agents-tag-preview", command: "agents tag --group edge site=berlin"},
		{name: "agents-tag-expect", command: "agents tag --group edge site=berlin --expect " + bulkMark},
		{name: "agents-tag-changed", command: "agents tag --group edge site=berlin --expect 1-00"},
		{name: "agents-tag-yes", command: "agents tag --all site=berlin --yes"},
		{name: "agents-tag-whom", command: "agents tag site=berlin"},
		{name: "agents-tag-both", command: "agents tag web-1 site=berlin --all"},
		{name: "agents-tag-nothing", command: "agents tag web-1"},
		{name: "agents-tag-twice", command: "agents tag web-1 site=berlin site-"},
		{name: "agents-move", command: "agents move web-1 --to edge"},
		{name: "agents-move-where", command: "agents move web-1"},
		{name: "agents-push", command: "agents push --group edge --reason restored --yes"},
		{name: "agents-push-why", command: "agents push web-1"},
		{name: "agents-drain", command: "agents drain --gateway gw-a --over 10m --dry-run"},
		{name: "agents-restart", command: "agents restart web-1 web-2"},
		{name: "agents-export", command: "agents export --group edge --presence offline"},
		{name: "agents-export-many", command: "agents export"},
		{name: "groups-create", command: "groups create lab --description tests"},
		{name: "groups-create-taken", command: "groups create edge"},
		{name: "groups-create-dynamic", command: `groups create lab --selector true --priority 5 --default edge@1 --default-on-claims`},
		{name: "groups-create-priority", command: "groups create lab --selector true --priority 5000"},
		{name: "groups-create-default", command: "groups create lab --default edge@none"},
		{name: "groups-update", command: "groups update busy --selector false --default edge"},
		{name: "groups-update-default", command: `groups update busy --default=`},
		{name: "groups-update-nothing", command: "groups update busy"},
		{name: "groups-get-busy", command: "groups get busy"},
		{name: "groups-preview", command: "groups preview true"},
		{name: "groups-preview-wrong", command: "groups preview true&&"},
		{name: "groups-preview-json", command: "groups preview --group busy --priority 3 -o json"},
		{name: "agents-labels", command: "agents labels"},
		{name: "agents-labels-key", command: "agents labels os.type"},
		{name: "agents-labels-tags", command: "agents labels --tags"},
		{name: "groups-list", command: "groups list"},
		{name: "groups-list-deleted", command: "groups list --deleted -o yaml"},
		{name: "groups-get", command: "groups get edge"},
		{name: "groups-delete", command: "groups delete edge"},
		{name: "groups-undelete", command: "groups undelete gone"},
		{name: "groups-undelete-unknown", command: "groups undelete edge"},
		{name: "groups-add", command: "groups add edge web-3 web-3"},
		{name: "groups-remove", command: "groups remove edge web-1"},
		{name: "configs-create", command: "configs create lab"},
		{name: "configs-create-publish", command: "configs create lab -f - --publish --kind opaque --note n", stdin: "bytes\x00"},
		{name: "configs-create-nothing", command: "configs create lab --publish"},
		{name: "configs-list", command: "configs list"},
		{name: "configs-get", command: "configs get edge -o json"},
		{name: "configs-versions", command: "configs versions edge"},
		{name: "configs-push", command: "configs push edge -f - --publish", stdin: "three: 3\n"},
		{name: "configs-push-missing", command: "configs push edge -f /nonexistent/edge.yaml"},
		{
			name: "configs-push-broken", command: "configs push edge -f -", stdin: "a: [",
			fail: refuse(connect.CodeInvalidArgument, "CONFIG_NOT_YAML", "line 1, column 4: no end of the list", map[string]string{"line": "1", "column": "4"}),
		},
		{name: "configs-edit", command: "configs edit edge -f - --note again", stdin: "two: 22\n"},
		{name: "configs-edit-stale", command: "configs edit edge@2 --revision 9 -f -", stdin: "two: 22\n"},
		{name: "configs-edit-unknown", command: "configs edit edge@9 -f -", stdin: "two: 22\n"},
		{name: "configs-cat", command: "configs cat edge"},
		{name: "configs-cat-version", command: "configs cat edge@2"},
		{name: "configs-cat-yaml", command: "configs cat edge@2 -o yaml"},
		{name: "configs-cat-bad", command: "configs cat edge@two"},
		{name: "configs-publish", command: "configs publish edge"},
		{name: "configs-publish-again", command: "configs publish edge@1"},
		{name: "configs-list-filter", command: "configs list --name-prefix x --kind collector --drafts"},
		{name: "configs-list-kind", command: "configs list --kind yaml"},
		{name: "configs-versions-drafts", command: "configs versions edge --state draft"},
		{name: "configs-check", command: "configs check edge"},
		{name: "configs-check-broken", command: "configs check -f -", stdin: "exporters: [missing]\n"},
		{name: "configs-check-fleet", command: "configs check edge@1 --all"},
		{name: "configs-check-what", command: "configs check"},
		{name: "configs-check-both", command: "configs check edge -f -"},
		{name: "configs-check-whom", command: "configs check edge --all --group edge"},
		{name: "configs-push-refused", command: "configs push edge -f - --publish", stdin: "exporters: [missing]\n"},
		{name: "configs-publish-waive", command: "configs publish edge --waive undefined-component,no-pipelines"},
		{name: "configs-diff", command: "configs diff edge@1 edge@2"},
		{name: "configs-diff-same", command: "configs diff edge@1 edge@1"},
		{name: "configs-diff-file", command: "configs diff edge -f - --text", stdin: "two: 3\n"},
		{name: "configs-diff-same-text", command: "configs diff edge@1 edge@1 --text"},
		{name: "configs-diff-one", command: "configs diff edge"},
		{name: "agents-drift", command: "agents drift"},
		{name: "agents-drift-group", command: "agents drift --group edge -o json"},
		{name: "agents-drift-one", command: "agents drift web-1"},
		{name: "agents-drift-text", command: "agents drift web-1 --text"},
		{name: "agents-drift-both", command: "agents drift web-1 --group edge"},
		{name: "configs-render", command: "configs render -f - --agent web-1", stdin: "a: ${ampora:agent:id}\n"},
		{name: "configs-render-version", command: "configs render edge@2 --agent web-1"},
		{name: "configs-render-unknown", command: "configs render -f - --agent web-1", stdin: "a: ${ampora:tag:none}\n"},
		{name: "configs-render-whom", command: "configs render edge"},
		{name: "config-rules-list", command: "config-rules list"},
		{name: "config-rules-put", command: "config-rules put no-zip -f - --severity warning --message m --fix f", stdin: "false"},
		{name: "config-rules-put-broken", command: "config-rules put no-zip -e size( --message m"},
		{name: "config-rules-put-nothing", command: "config-rules put no-zip --message m"},
		{name: "config-rules-put-severity", command: "config-rules put no-zip -e true --message m --severity bad"},
		{name: "config-rules-delete", command: "config-rules delete no-debug"},
		{name: "config-rules-delete-unknown", command: "config-rules delete no-zip"},
		{name: "schedules-list", command: "schedules list"},
		{name: "schedules-list-json", command: "schedules list -o json"},
		{name: "schedules-put", command: "schedules put year-end --kind freeze --from 2027-12-19 --until 2027-12-20 --zone Europe/Berlin --group edge"},
		{name: "schedules-put-rule", command: "schedules put nights --rule FREQ=WEEKLY --from 2027-05-04T09:00 --for 4h"},
		{name: "schedules-put-zone", command: "schedules put nights --rule FREQ=WEEKLY --from 2027-05-04T09:00:00Z --for 4h --zone Nowhere"},
		{name: "schedules-put-nowhere", command: "schedules put nights --rule FREQ=WEEKLY --from 2027-05-04T09:00 --for 4h --zone Nowhere"},
		{name: "schedules-put-kind", command: "schedules put nights --kind holiday"},
		{name: "schedules-put-name", command: "schedules put Nights --rule FREQ=WEEKLY --from 2027-05-04T09:00 --for 4h"},
		{name: "schedules-preview", command: "schedules preview nights --count 3"},
		{name: "schedules-preview-given", command: "schedules preview draft --rule FREQ=DAILY --from 2027-01-01 --for 2h --zone America/New_York --since 2027-03-28"},
		{name: "schedules-preview-unknown", command: "schedules preview days"},
		{name: "schedules-preview-since", command: "schedules preview nights --since tomorrow"},
		{name: "schedules-delete", command: "schedules delete nights"},
		{name: "schedules-delete-unknown", command: "schedules delete days"},
		{name: "budgets-list", command: "budgets list"},
		{name: "budgets-uses", command: "budgets uses"},
		{name: "budgets-put", command: "budgets put sites --label site --most 3"},
		{name: "budgets-put-most", command: "budgets put sites --label site --most 0"},
		{name: "budgets-put-nothing", command: "budgets put sites"},
		{name: "budgets-delete", command: "budgets delete sites"},
		{name: "budgets-delete-unknown", command: "budgets delete zones"},
		{name: "configs-import", command: "configs import - --name edge --publish", stdin: "three: 3\n"},
		{name: "configs-import-unchanged", command: "configs import - --name edge", stdin: "two: 2\x1b[2J\n"},
		{name: "configs-import-unnamed", command: "configs import -", stdin: "three: 3\n"},
		{name: "configs-import-names", command: "configs import a b --name edge"},
		{name: "configs-restore", command: "configs restore edge@1"},
		{name: "configs-restore-which", command: "configs restore edge"},
		{name: "configs-unarchive", command: "configs unarchive edge@1"},
		{name: "configs-archive", command: "configs archive edge@1"},
		{name: "configs-archive-which", command: "configs archive edge"},
		{name: "configs-assign", command: "configs assign edge@1 --group edge"},
		{name: "configs-assign-nobody", command: "configs assign edge@1"},
		{name: "configs-assign-both", command: "configs assign edge@1 --group edge --agent web-1"},
		{name: "configs-assign-rollout-active", command: "configs assign edge@1 --group edge", fail: underWay},
		{name: "configs-unassign", command: "configs unassign --agent web-1"},
		{name: "configs-assignments", command: "configs assignments"},
		{name: "tokens-issue", command: "tokens issue --ttl 2d --group edge"},
		{name: "tokens-issue-tags", command: "tokens issue --tag site=berlin --tag rack=7 -o json"},
		{name: "tokens-issue-json", command: "tokens issue -o json"},
		{name: "tokens-issue-ttl", command: "tokens issue --ttl soon"},
		{name: "tokens-issue-long", command: "tokens issue --ttl 8d"},
		{name: "tokens-issue-agent", command: "tokens issue --agent web-1 --replace -o json"},
		{
			name: "tokens-issue-agent-good", command: "tokens issue --agent web-1",
			fail: refuse(connect.CodeFailedPrecondition, "AGENT_HAS_CERTIFICATE", "the agent has a certificate that is good: an Admin may replace it", nil),
		},
		{name: "tokens-issue-agent-group", command: "tokens issue --agent web-1 --group edge"},
		{name: "tokens-issue-replace", command: "tokens issue --replace"},
		{name: "tokens-list", command: "tokens list"},
		{name: "tokens-revoke", command: "tokens revoke " + mintedID},
		{name: "certificates-offer", command: "certificates offer web-1"},
		{
			name: "certificates-offer-files", command: "certificates offer web-1",
			fail: refuse(connect.CodeFailedPrecondition, "AGENT_KEEPS_ITS_KEY", "the agent keeps its own key: its machine renews the certificate", nil),
		},
		{name: "token-pools-create", command: "token-pools create spot --group edge --per-hour 200 --live-limit 50 --ttl 2h"},
		{name: "token-pools-create-tags", command: "token-pools create spot --tag site=berlin -o json"},
		{name: "token-pools-update-tags", command: "token-pools update web --tag site=berlin --tag rack=7"},
		{name: "token-pools-update-no-tags", command: "token-pools update web --no-tags"},
		{name: "token-pools-create-json", command: "token-pools create spot -o json"},
		{name: "token-pools-create-rules", command: "token-pools create spot --per-hour 1000000"},
		{name: "token-pools-list", command: "token-pools list"},
		{name: "token-pools-get", command: "token-pools get web"},
		{name: "token-pools-get-disabled", command: "token-pools get spot"},
		{name: "token-pools-get-unknown", command: "token-pools get nothing"},
		{name: "token-pools-update", command: "token-pools update web --per-hour 500 --disable"},
		{name: "rollouts-plan", command: "rollouts plan edge --group edge"},
		{name: "rollouts-plan-ways", command: "rollouts plan edge@1 --group edge --strategy percentage --steps 5%/5m,25%,100% --spread site --seed 9 --advance manual --late join --gate apply-failed=10%,total=off --gate disconnect=20%,window=2m --gate unhealthy=off --small-wave 3 --deadline 20m --roll-back --note try -o json"},
		{name: "rollouts-plan-no-group", command: "rollouts plan edge"},
		{name: "rollouts-plan-steps", command: "rollouts plan edge --group edge --steps 5/soon"},
		{name: "rollouts-plan-share", command: "rollouts plan edge --group edge --steps 500%"},
		{name: "rollouts-plan-gate", command: "rollouts plan edge --group edge --gate mood=10%"},
		{name: "rollouts-plan-gate-key", command: "rollouts plan edge --group edge --gate disconnect=10%,per=5m"},
		{name: "rollouts-plan-order", command: "rollouts plan edge --group edge --order height"},
		{name: "rollouts-create", command: "rollouts create edge --group edge"},
		{name: "rollouts-create-start", command: "rollouts create edge --group edge --start"},
		{name: "rollouts-create-invalid", command: "rollouts create edge --group edge", fail: refuse(connect.CodeInvalidArgument, "ROLLOUT_INVALID", "strategy.steps end with 100 percent", nil)},
		{name: "rollouts-start", command: "rollouts start " + rolloutEdge},
		{
			name: "rollouts-start-active", command: "rollouts start edge",
			fail: refuse(connect.CodeFailedPrecondition, "ROLLOUT_ACTIVE", "another rollout is active in the group", map[string]string{"rollout": rolloutEdge}),
		},
		{name: "rollouts-pause", command: "rollouts pause edge --reason lunch"},
		{name: "rollouts-resume", command: "rollouts resume 01890000-0000-7000-8000-0000000000f"},
		{name: "rollouts-advance", command: "rollouts advance edge"},
		{name: "rollouts-extend", command: "rollouts extend edge --by 10m"},
		{name: "rollouts-extend-nothing", command: "rollouts extend edge"},
		{name: "rollouts-abort", command: "rollouts abort edge --reason wrong"},
		{name: "rollouts-rollback", command: "rollouts rollback edge --note sorry --strategy batch --size 5"},
		{name: "rollouts-get", command: "rollouts get edge"},
		{name: "rollouts-get-json", command: "rollouts get edge -o json"},
		{name: "rollouts-get-none", command: "rollouts get busy"},
		{name: "rollouts-get-unknown", command: "rollouts get nowhere"},
		{name: "rollouts-list", command: "rollouts list --group edge --state paused,in-progress"},
		{name: "rollouts-list-state", command: "rollouts list --state asleep"},
		{name: "rollouts-members", command: "rollouts members edge"},
		{name: "rollouts-members-stragglers", command: "rollouts members edge --stragglers --wave 1"},
		{name: "rollouts-simulate", command: "rollouts simulate edge --group edge"},
		{name: "rollouts-simulate-fails", command: "rollouts simulate edge --fail 30% --median 20s --luck 4"},
		{name: "rollouts-simulate-share", command: "rollouts simulate edge --fail much"},
		{name: "token-pools-update-nothing", command: "token-pools update web"},
		{name: "token-pools-update-both", command: "token-pools update web --disable --enable"},
		{name: "token-pools-rotate-secret", command: "token-pools rotate-secret web"},
		{name: "token-pools-rotate-secret-overlap", command: "token-pools rotate-secret web --overlap 2h"},
		{name: "token-pools-rotate-secret-long", command: "token-pools rotate-secret web --overlap 2d"},
		{name: "token-pools-delete", command: "token-pools delete web"},
		{name: "token-pools-draw-nothing", command: "token-pools draw"},
		{name: "token-pools-draw-wrong", command: "token-pools draw --secret-file -", stdin: "amp-pool.secret"},
		{name: "api-tokens-create", command: "api-tokens create ci --role operator --procedure /ampora.v1.AgentService/ListAgents"},
		{name: "api-tokens-create-role", command: "api-tokens create ci --role king"},
		{name: "api-tokens-list", command: "api-tokens list"},
		{name: "api-tokens-revoke", command: "api-tokens revoke " + mintedID},
		{name: "gateways-list", command: "gateways list"},
		{name: "gateways-list-json", command: "gateways list -o json --limit 1"},
		{name: "gateways-get", command: "gateways get edge-1"},
		{name: "gateways-get-joined", command: "gateways get edge-3"},
		{name: "gateways-get-unknown", command: "gateways get edge-9"},
		{name: "gateways-get-rules", command: "gateways get Edge"},
		{name: "gateways-revoke", command: "gateways revoke edge-1"},
		{name: "gateways-revoke-shared", command: "gateways revoke edge-2"},
		{name: "join-tokens-issue", command: "join-tokens issue edge-4 --ttl 2d"},
		{name: "join-tokens-issue-json", command: "join-tokens issue edge-4 -o json"},
		{name: "join-tokens-issue-nobody", command: "join-tokens issue"},
		{
			name: "join-tokens-issue-shared", command: "join-tokens issue edge-2",
			fail: refuse(connect.CodePermissionDenied, "GATEWAY_SHARED", "it serves other tenants", nil),
		},
		{name: "join-tokens-list", command: "join-tokens list"},
		{name: "join-tokens-revoke", command: "join-tokens revoke " + mintedID},
		{name: "events-list", command: "events list --agent web-1 --limit 2"},
		{name: "audit-list", command: "audit list"},
		{name: "system-get", command: "system get"},
		{name: "help-exit-codes", command: "help exit-codes"},
		{name: "usage-no-verb", command: "agents"},
		{name: "usage-wrong-verb", command: "agents fly"},
		{name: "usage-wrong-noun", command: "agent list"},
		{name: "usage-wrong-flag", command: "agents list --fast"},
		{name: "usage-wrong-format", command: "agents list -o xml"},
		{name: "usage-arguments", command: "agents get"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.stdin, w.state.failNext = c.stdin, c.fail
				check(t, c.name, w.run(strings.Fields(c.command)...).golden())
			})
		})
	}
}

// TestDraw: with a pool's secret and nothing else, which no output shows.
func TestDraw(t *testing.T) {
	limited := refuse(connect.CodeResourceExhausted, "POOL_RATE_LIMITED", "the token pool has handed out as many tokens as it may for now",
		map[string]string{"retry_after_seconds": "60"})
	for _, c := range []struct {
		name, command string
		other         bool // another secret than the pool's
		fail          error
	}{
		{name: "token-pools-draw", command: "token-pools draw --secret-file - --description i-0abc"},
		{name: "token-pools-draw-json", command: "token-pools draw --secret-file - -o json"},
		{name: "token-pools-draw-limited", command: "token-pools draw --secret-file -", fail: limited},
		{name: "token-pools-draw-former", command: "token-pools draw --secret-file -", other: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				secret := w.state.poolSecret
				if c.other {
					secret = identity.NewToken(identity.PoolToken)
				}
				w.stdin, w.state.failNext = secret.Reveal()+"\n", c.fail
				got := w.run(strings.Fields(c.command)...).golden()
				check(t, c.name, got)
				if strings.Contains(got, secret.Reveal()) {
					t.Error("it shows the pool's secret")
				}
			})
		})
	}
}
