// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

const (
	// rolloutNamed is how many agents a watch names.
	rolloutNamed = 5
	// rolloutLook is how often a watch asks for those on a terminal.
	rolloutLook = 2 * time.Second
	// rolloutLine is how often a watch tells of numbers alone that change, where there is no terminal.
	rolloutLine = 10 * time.Second
)

// errOver ends a watch: what it is about has come to an end.
var errOver = fmt.Errorf("%w: it is over", errTold)

// rolloutWatch is one watch over a rollout.
type rolloutWatch struct {
	p       *program
	api     *api
	id      string
	through bool // a pause does not end it
	last    *amporav1.WatchRolloutResponse
	screen  *screen // nil: lines are told
	toldAt  time.Time
	told    string
	named   []*amporav1.RolloutMember
	namedAt time.Time
}

func (p *program) rolloutsWatch() *cobra.Command {
	var through bool
	cmd := p.remote(verb{
		use: "watch ROLLOUT [flags]", short: "Follow a rollout until it ends", args: cobra.ExactArgs(1), follows: always,
		long: `Follow a rollout until it ends. On a terminal it is one picture that is drawn anew: the waves, the gates with how near
they are, and who takes longest. Elsewhere it is a line for each change; with -o json one JSON object per line.

It exits with 0 when the rollout is completed, 8 when it is paused (unless --through-pauses), 9 when it was aborted and
10 when it was rolled back. ` + rolloutNames,
		example: "amporactl rollouts watch berlin --timeout 2h",
	}, func(ctx context.Context, api *api, args []string) error {
		id, err := api.rolloutID(ctx, args[0])
		if err != nil {
			return err
		}
		w := &rolloutWatch{p: p, api: api, id: id, through: through}
		if p.format == formatTable && isTerminal(p.streams.Out) {
			w.screen = &screen{out: p.streams.Out}
		}
		return w.run(ctx)
	})
	cmd.Flags().BoolVar(&through, "through-pauses", false, "go on following while it is paused")
	return cmd
}

func (w *rolloutWatch) run(ctx context.Context) error {
	err := w.p.persist(ctx, w.follow)
	if !errors.Is(err, errOver) {
		return err
	}
	return w.end(ctx)
}

// follow tells what one connection says.
func (w *rolloutWatch) follow(ctx context.Context, heard func()) error {
	stream, err := w.api.rollouts.WatchRollout(ctx, &amporav1.WatchRolloutRequest{Id: w.id})
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		answer, err := stream.Receive()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		heard()
		w.last = answer
		if err := w.tell(ctx); err != nil {
			return fmt.Errorf("%w: %w", errTold, err)
		}
		if w.over() {
			return errOver
		}
	}
}

func (w *rolloutWatch) over() bool {
	switch w.last.GetRollout().GetState() {
	case amporav1.RolloutState_ROLLOUT_STATE_COMPLETED, amporav1.RolloutState_ROLLOUT_STATE_ABORTED, amporav1.RolloutState_ROLLOUT_STATE_ROLLED_BACK:
		return true
	case amporav1.RolloutState_ROLLOUT_STATE_PAUSED:
		return !w.through
	default:
		return false
	}
}

// tell shows how it stands.
func (w *rolloutWatch) tell(ctx context.Context) error {
	switch {
	case w.p.format != formatTable:
		text, err := w.p.encode(w.last, "")
		if err != nil {
			return err
		}
		if w.p.format == formatYAML {
			text = append([]byte("---\n"), text...)
		}
		_, err = w.p.streams.Out.Write(text)
		return err
	case w.screen != nil:
		w.name(ctx)
		return w.screen.draw(w.picture())
	default:
		return w.line()
	}
}

// line tells a change of state at once, and one of numbers alone every now and then.
func (w *rolloutWatch) line() error {
	rollout := w.last.GetRollout()
	now := fmt.Sprint(rollout.GetState(), rollout.GetWave(), rollout.GetReason())
	if now == w.told && w.p.now().Sub(w.toldAt) < rolloutLine {
		return nil
	}
	w.told, w.toldAt = now, w.p.now()
	text := w.p.now().UTC().Format(time.RFC3339) + "  " + w.headline() + "  " + summed(w.last.GetWaves())
	_, err := fmt.Fprintln(w.p.streams.Out, text)
	return err
}

// headline is where the rollout stands.
func (w *rolloutWatch) headline() string {
	rollout := w.last.GetRollout()
	text := rolledOut(rollout) + " to " + or(rollout.GetDefinition().GetGroupName()) + ": " + word(rollout.GetState())
	if rollout.GetWave() > 0 {
		text += ", wave " + waveOf(rollout)
	}
	if rollout.GetReason() != "" {
		text += ": " + escape(rollout.GetReason())
	}
	return text
}

// sums are the counts of all waves together.
func sums(waves []*amporav1.RolloutWave) *amporav1.RolloutCounts {
	sum := &amporav1.RolloutCounts{}
	for _, wave := range waves {
		counts := wave.GetCounts()
		sum.Agents += counts.GetAgents()
		sum.Touched += counts.GetTouched()
		sum.InFlight += counts.GetInFlight()
		sum.Applied += counts.GetApplied()
		sum.Succeeded += counts.GetSucceeded()
		sum.Failed += counts.GetFailed()
		sum.Gone += counts.GetGone()
		sum.Mismatch += counts.GetMismatch()
		sum.Unhealthy += counts.GetUnhealthy()
		sum.Overdue += counts.GetOverdue()
	}
	return sum
}

// summed is how far it is, with whatever is wrong.
func summed(waves []*amporav1.RolloutWave) string {
	sum := sums(waves)
	text := fmt.Sprintf("%d of %d applied", sum.GetApplied(), sum.GetAgents())
	for _, about := range []struct {
		n    int32
		word string
	}{
		{sum.GetInFlight(), "in flight"},
		{sum.GetFailed(), "failed"},
		{sum.GetGone(), "gone"},
		{sum.GetMismatch(), "mismatch"},
		{sum.GetUnhealthy(), "unhealthy"},
		{sum.GetOverdue(), "overdue"},
	} {
		if about.n > 0 {
			text += fmt.Sprintf(", %d %s", about.n, about.word)
		}
	}
	return text
}

// name asks who takes longest. A watch goes on without knowing.
func (w *rolloutWatch) name(ctx context.Context) {
	if w.p.now().Sub(w.namedAt) < rolloutLook {
		return
	}
	w.namedAt = w.p.now()
	if answer, err := w.api.rollouts.ListRolloutMembers(ctx, &amporav1.ListRolloutMembersRequest{Id: w.id, Stragglers: true, PageSize: rolloutNamed}); err == nil {
		w.named = answer.GetMembers()[:min(len(answer.GetMembers()), rolloutNamed)]
	}
}

// picture is what a terminal shows.
func (w *rolloutWatch) picture() string {
	text := &strings.Builder{}
	rollout, waves := w.last.GetRollout(), w.last.GetWaves()
	_, _ = fmt.Fprintf(text, "%s\n%s  %s", w.headline(), bar(waves), summed(waves))
	if rollout.GetStartedAt() != nil {
		until := w.p.now()
		if rollout.GetEndedAt() != nil {
			until = rollout.GetEndedAt().AsTime()
		}
		_, _ = fmt.Fprintf(text, ", for %s", since(rollout.GetStartedAt().AsTime(), until))
	}
	_, _ = fmt.Fprint(text, "\n\n")
	_ = waveTable(rollout, waves).write(text) // a builder does not fail
	_, _ = fmt.Fprint(text, "\n")
	_ = gateTable(rollout, waves).write(text)
	if len(w.named) > 0 {
		_, _ = fmt.Fprint(text, "\nlongest without an answer:\n")
		for _, member := range w.named {
			_, _ = fmt.Fprintf(text, "  %s  %s  %s, let in %s\n", escape(member.GetAgentId()), or(member.GetHostName()), word(member.GetState()), relative(w.p.now(), member.GetAdmittedAt()))
		}
	}
	return text.String()
}

// bar is how far it is: # applied, + let in, . to come.
func bar(waves []*amporav1.RolloutWave) string {
	const width = 30
	sum := sums(waves)
	all := max(sum.GetAgents(), 1)
	applied, touched := int(width*sum.GetApplied()/all), int(width*sum.GetTouched()/all)
	return "[" + strings.Repeat("#", applied) + strings.Repeat("+", touched-applied) + strings.Repeat(".", width-touched) + "]"
}

// gateTable shows how near the gates are.
func gateTable(rollout *amporav1.Rollout, waves []*amporav1.RolloutWave) view {
	open := &amporav1.RolloutCounts{}
	for _, wave := range waves {
		if wave.GetWave() == rollout.GetWave() && rollout.GetWave() > 0 {
			open = wave.GetCounts()
		}
	}
	soFar, gates := sums(waves), rollout.GetDefinition().GetGates()
	t := newTable("GATE", "WAVE", "STOPS ABOVE", "SO FAR", "STOPS ABOVE")
	for _, gate := range gatesOf(gates) {
		if gate.gate.GetOff() {
			t.row(gate.name, none, "off", none, "off")
			continue
		}
		wave, total := percent(gate.gate.GetWave()), percent(gate.gate.GetTotal())
		if open.GetAgents() < gates.GetSmallWave() {
			wave = "0%, few agents"
		}
		if soFar.GetTouched() < gates.GetSmallTotal() {
			total += fmt.Sprintf(" of %d or more", gates.GetSmallTotal())
		}
		t.row(gate.name, share(gate.count(open), open.GetAgents()), wave, share(gate.count(soFar), soFar.GetTouched()), total)
	}
	return t
}

// share is a part of a number: "3 of 60, 5%".
func share(part, of int32) string {
	if of == 0 {
		return none
	}
	return fmt.Sprintf("%d of %d, %.3g%%", part, of, 100*float64(part)/float64(of))
}

// end tells what became of it, and who has a problem.
func (w *rolloutWatch) end(ctx context.Context) error {
	rollout := w.last.GetRollout()
	problems, err := pages(ctx, rolloutNamed, w.api.memberPages(&amporav1.ListRolloutMembersRequest{Id: w.id, Problems: true}))
	if err == nil && len(problems) > 0 && w.p.format == formatTable {
		_, _ = fmt.Fprintf(w.p.streams.Err, "agents with problems (all: amporactl rollouts members %s --problems):\n", escape(w.id))
		_ = w.p.memberTable(problems).write(w.p.streams.Err) // as good as it gets
	}
	switch rollout.GetState() {
	case amporav1.RolloutState_ROLLOUT_STATE_PAUSED:
		return fail(ExitPaused, "go on with: amporactl rollouts resume "+escape(w.id)+", or undo it with: amporactl rollouts rollback "+escape(w.id),
			"the rollout is paused: %s", rollout.GetReason())
	case amporav1.RolloutState_ROLLOUT_STATE_ABORTED:
		return fail(ExitAborted, "", "the rollout was aborted: %s", rollout.GetReason())
	case amporav1.RolloutState_ROLLOUT_STATE_ROLLED_BACK:
		return fail(ExitRolledBack, "", "the rollout was rolled back: %s", rollout.GetReason())
	default:
		return nil
	}
}

// screen draws one picture over the one before.
type screen struct {
	out   io.Writer
	lines int // of the picture before
}

// draw goes up to where the picture before began, and wipes what was there. Lines do not wrap meanwhile, or they could not
// be counted.
func (s *screen) draw(picture string) error {
	up := ""
	if s.lines > 0 {
		up = fmt.Sprintf("\x1b[%dA\x1b[J", s.lines)
	}
	s.lines = strings.Count(picture, "\n")
	_, err := io.WriteString(s.out, "\x1b[?7l"+up+picture+"\x1b[?7h")
	return err
}
