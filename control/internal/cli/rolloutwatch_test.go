// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"strings"
	"testing"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func TestStaleRolloutsAreNotStarted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.state.stalePlan = true
		check(t, "rollouts-start-stale", w.run("rollouts", "start", "edge").golden())
		check(t, "rollouts-start-accepted", w.run("rollouts", "start", "edge", "--accept-changes", freshPlan).golden())
	})
}

func TestRolloutsAreWatchedToTheirEnd(t *testing.T) {
	const (
		paused     = amporav1.RolloutState_ROLLOUT_STATE_PAUSED
		completed  = amporav1.RolloutState_ROLLOUT_STATE_COMPLETED
		aborted    = amporav1.RolloutState_ROLLOUT_STATE_ABORTED
		rolledBack = amporav1.RolloutState_ROLLOUT_STATE_ROLLED_BACK
	)
	for _, c := range []struct {
		name   string
		args   string
		exit   ExitCode
		script func() []*amporav1.WatchRolloutResponse // made in the bubble, where time stands
	}{
		{"completed", "", ExitOK, func() []*amporav1.WatchRolloutResponse {
			return []*amporav1.WatchRolloutResponse{
				aWord(inProgress, 1, "", 0, 0, 0), aWord(inProgress, 2, "", 0, 8, 0), nil, aWord(inProgress, 2, "", 1, 7, 0), aWord(completed, 3, "", 8, 0, 0),
			}
		}},
		{"paused", "", ExitPaused, func() []*amporav1.WatchRolloutResponse {
			return []*amporav1.WatchRolloutResponse{aWord(inProgress, 2, "", 3, 2, 1), aWord(paused, 2, "apply-failed 2 of 8 (25 % > 20 %) in wave 2", 3, 1, 2)}
		}},
		{"through", "--through-pauses", ExitAborted, func() []*amporav1.WatchRolloutResponse {
			return []*amporav1.WatchRolloutResponse{aWord(paused, 2, "lunch", 3, 0, 0), aWord(aborted, 2, "wrong", 3, 0, 0)}
		}},
		{"rolled-back", "-o json", ExitRolledBack, func() []*amporav1.WatchRolloutResponse {
			return []*amporav1.WatchRolloutResponse{aWord(rolledBack, 2, "undone", 3, 0, 0)}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.state.rolloutScript = c.script()
				got := w.run(append([]string{"rollouts", "watch", "edge"}, strings.Fields(c.args)...)...)
				if got.code != int(c.exit) {
					t.Errorf("exit %d, want %d", got.code, c.exit)
				}
				got.errOut = withoutPause(got.errOut)
				check(t, "rollouts-watch-"+c.name, got.golden())
			})
		})
	}
}

// withoutPause leaves out how long a lost connection is waited for, which is by chance.
func withoutPause(text string) string {
	before, rest, lost := strings.Cut(text, "; again in ")
	if !lost {
		return text
	}
	_, rest, _ = strings.Cut(rest, "\n")
	return before + "\n" + rest
}

func TestAPictureIsDrawnOverTheOneBefore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		out := new(bytes.Buffer)
		p := newProgram(Streams{strings.NewReader(""), out, out}, []string{"AMPORA_TOKEN=" + w.token.Reveal()})
		p.dial = w.dial
		api, err := p.connect()
		if err != nil {
			t.Fatal(err)
		}
		watch := &rolloutWatch{p: p, api: api, id: rolloutEdge, screen: &screen{out: out}}
		for _, word := range []*amporav1.WatchRolloutResponse{aWord(inProgress, 2, "", 3, 2, 1), aWord(inProgress, 2, "is looked at", 5, 0, 1)} {
			watch.last = word
			if err := watch.tell(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		p.hangUp()
		check(t, "rollouts-watch-terminal", outcome{out: out.String()}.golden())
	})
}
