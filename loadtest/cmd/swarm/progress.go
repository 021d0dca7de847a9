// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"gitlab.com/ampora/ampora/loadtest/swarm"
)

// line shows one line of progress: over and over on a terminal, once in a while elsewhere.
type line struct {
	out      io.Writer
	terminal bool
}

// Times between two lines.
const (
	onTerminal = time.Second
	elsewhere  = 10 * time.Second
)

func newLine(out io.Writer) line {
	file, ok := out.(*os.File)
	if !ok {
		return line{out: out}
	}
	info, err := file.Stat()
	return line{out: out, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

// every shows what text says until stop is called.
func (l line) every(text func() string) (stop func()) {
	span := elsewhere
	if l.terminal {
		span = onTerminal
	}
	ended := make(chan struct{})
	var showing sync.WaitGroup
	showing.Go(func() {
		ticks := time.NewTicker(span)
		defer ticks.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ticks.C:
				l.show(text())
			}
		}
	})
	return sync.OnceFunc(func() {
		close(ended)
		showing.Wait()
		if l.terminal {
			fmt.Fprintln(l.out)
		}
	})
}

func (l line) show(text string) {
	if l.terminal {
		fmt.Fprintf(l.out, "\r\x1b[K%s", text)
		return
	}
	fmt.Fprintln(l.out, text)
}

// watch makes the line of a run.
func watch(s *swarm.Swarm, what string) func() string {
	begin := time.Now()
	last, messages, answers := begin, s.Count().Messages.Load(), s.Count().Answers.Load()
	return func() string {
		c, now := s.Count(), time.Now()
		span := now.Sub(last).Seconds()
		sent, answered := c.Messages.Load(), c.Answers.Load()
		text := fmt.Sprintf("%s %4.0f s: %d of %d online, %.0f messages/s, %.0f answers/s, %d offers, %d full states asked, %d faults, %d errors",
			what, now.Sub(begin).Seconds(), c.Online(), s.Size(), float64(sent-messages)/span, float64(answered-answers)/span,
			c.Offers.Load(), c.FullStateAsked.Load(), sum(c.Faults()), sum(c.Errors()))
		last, messages, answers = now, sent, answered
		return text
	}
}

func sum(counts map[string]int64) (n int64) {
	for _, count := range counts {
		n += count
	}
	return n
}
