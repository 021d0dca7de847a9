// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package validator

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"gitlab.com/ampora/ampora/control/internal/collector"
)

// Bounds on what one check asks.
const (
	// patience is how long all builds together may take.
	patience = 20 * time.Second
	// mostAsked is how many builds are asked; mostRounds how often each, with placeholders of other types.
	mostAsked  = 8
	mostRounds = 8
	// longestWhy bounds a sentence from the other side, in bytes.
	longestWhy = 300
)

// Key names a build as agents report it.
type Key struct{ Name, Version string }

// Verdict is what a build has to say about a configuration.
type Verdict struct {
	Outcome Outcome
	// Findings, of the rule [collector.RuleValidate], if it was refused.
	Findings []collector.Finding
	// Why it was not asked, or gave no verdict.
	Why string
}

// Check has each build that the validator has look at the configuration. There is a verdict for each key, also if nobody
// could be asked; there are none if there is no validator.
func (c *Client) Check(ctx context.Context, config *collector.Config, keys []Key) map[Key]Verdict {
	if c == nil {
		return nil
	}
	verdicts := make(map[Key]Verdict, len(keys))
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	has, err := c.builds(ctx)
	if err != nil {
		c.log.WarnContext(ctx, "the validator does not answer", slog.Any("error", err))
	}
	toAsk := map[Key]Key{}
	for _, key := range keys {
		switch known, found := find(has, key); {
		case err != nil:
			verdicts[key] = notAsked("the validator does not answer")
		case !found:
			verdicts[key] = notAsked("the validator does not have this build")
		case len(toAsk) == mostAsked:
			verdicts[key] = notAsked("more builds are in question than are asked at once")
		default:
			toAsk[key] = known
		}
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	for key, known := range toAsk {
		asking.Go(func() {
			v := c.ask(ctx, config, known)
			mu.Lock()
			defer mu.Unlock()
			verdicts[key] = v
		})
	}
	asking.Wait()
	return verdicts
}

// find returns the name under which the validator has a build. Versions are compared without the v before them, which
// some builds report and others do not.
func find(has []Build, key Key) (known Key, found bool) {
	for _, b := range has {
		i := slices.IndexFunc(b.Versions, func(v string) bool { return strings.TrimPrefix(v, "v") == strings.TrimPrefix(key.Version, "v") })
		if b.Name == key.Name && i >= 0 {
			return Key{b.Name, b.Versions[i]}, true
		}
	}
	return Key{}, false
}

// ask asks a build, and as long as it complains of the type of a placeholder, with another one.
func (c *Client) ask(ctx context.Context, config *collector.Config, key Key) Verdict {
	shown := config.StandIn()
	for round := 1; ; round++ {
		body, err := shown.Body()
		if err != nil {
			return notAsked("the configuration has too many values to be shown to it")
		}
		a, err := c.validate(ctx, Question{Name: key.Name, Version: key.Version, Config: body})
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return notAsked("the validator did not answer in time")
		case err != nil:
			c.log.WarnContext(ctx, "the validator gives no answer", slog.String("build", key.Name), slog.Any("error", err))
			return notAsked("the validator gives no answer")
		case a.Outcome != Refused:
			return plain(a)
		case round == mostRounds || !shown.Vary(a.Output):
			return refused(shown.Findings(a.Output))
		}
	}
}

func notAsked(why string) Verdict { return Verdict{Outcome: NotAsked, Why: why} }

// plain is an answer that has no findings. What the other side could have made up is not passed on.
func plain(a Answer) Verdict {
	switch a.Outcome {
	case Accepted:
		return Verdict{Outcome: Accepted}
	case Stopped, NotAsked:
		return Verdict{Outcome: a.Outcome, Why: sentence(a.Why)}
	default:
		return notAsked("the validator's answer is not understood")
	}
}

func refused(found []collector.Finding) Verdict {
	if slices.ContainsFunc(found, func(f collector.Finding) bool { return f.Severity == collector.Error }) {
		return Verdict{Outcome: Refused, Findings: found}
	}
	return Verdict{Outcome: Uncertain, Findings: found}
}

// sentence is a text of the other side, shortened and without control characters.
func sentence(text string) string {
	text = collector.Printable(text)
	if len(text) <= longestWhy {
		return text
	}
	cut := longestWhy
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
