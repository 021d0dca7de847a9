// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gitlab.com/ampora/ampora/loadtest/swarm"
	"gitlab.com/ampora/ampora/loadtest/verify"
)

// report is what happened, as --report writes it. Fields that do not apply are absent.
type report struct {
	Agents    int        `json:"agents"`
	Transport string     `json:"transport,omitempty"`
	Began     time.Time  `json:"began"`
	Seconds   float64    `json:"seconds"`
	Enrolment *enrolment `json:"enrolment,omitempty"`
	// ConnectSeconds is how long it took until every agent had been answered once.
	ConnectSeconds float64                      `json:"connect_s,omitempty"`
	Counts         map[string]int64             `json:"counts,omitempty"`
	PerSecond      map[string]float64           `json:"per_second,omitempty"`
	Latency        map[string]swarm.Percentiles `json:"latency,omitempty"`
	Faults         map[string]int64             `json:"faults"`
	Errors         map[string]int64             `json:"errors,omitempty"`
	Process        *process                     `json:"process,omitempty"`
	Verification   *verify.Result               `json:"verification,omitempty"`
	// Failure is why the run did not pass; empty if it did.
	Failure string `json:"failure"`
}

// process is what the swarm itself cost.
type process struct {
	RSSBytes    int64   `json:"rss_bytes"`
	RSSPerAgent int64   `json:"rss_per_agent_bytes"`
	CPUSeconds  float64 `json:"cpu_s"`
}

// add adds what a swarm counted.
func (r *report) add(s *swarm.Swarm) {
	c := s.Count()
	r.Counts = map[string]int64{
		"online": c.Online(), "messages": c.Messages.Load(), "bytes": c.Bytes.Load(), "answers": c.Answers.Load(),
		"full_state_asked": c.FullStateAsked.Load(), "components_asked": c.ComponentsAsked.Load(),
		"offers": c.Offers.Load(), "offers_repeated": c.OffersRepeated.Load(), "applied": c.Applied.Load(), "failed": c.Failed.Load(),
		"health_flips": c.Flips.Load(), "relabels": c.Relabels.Load(),
		"certificates": c.Certificates.Load(), "connects": c.Connect.Percentiles().Count, "most_dials": s.MostDials(),
	}
	r.Seconds = time.Since(r.Began).Seconds()
	r.PerSecond = map[string]float64{
		"messages": float64(c.Messages.Load()) / r.Seconds, "answers": float64(c.Answers.Load()) / r.Seconds,
	}
	r.Latency = map[string]swarm.Percentiles{
		"connect": c.Connect.Percentiles(), "answer": c.Answer.Percentiles(), "config_receipt": c.Receipt.Percentiles(),
	}
	r.Faults, r.Errors = c.Faults(), c.Errors()
	cost := cost()
	cost.RSSPerAgent = cost.RSSBytes / int64(s.Size())
	r.Process = &cost
}

// cost reads what this process used until now. Memory is 0 where there is no /proc.
func cost() (p process) {
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) == nil {
		p.CPUSeconds = time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
	}
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			p.RSSBytes = kib << 10
		}
	}
	return p
}

// write writes the report into its file, if there is to be one.
func (r *report) write(path string) error {
	if path == "" {
		return nil
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(text, '\n'), 0o644) //nolint:gosec // counts and times, for anybody to read
}

// print tells the story in lines.
func (r *report) print(out io.Writer) {
	if r.Counts != nil {
		fmt.Fprintf(out, "%d agents, %.0f s: %s\n", r.Agents, r.Seconds, inWords(r.Counts))
		for _, name := range slices.Sorted(maps.Keys(r.Latency)) {
			p := r.Latency[name]
			fmt.Fprintf(out, "%s: %d, p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, longest %.1f ms\n", name, p.Count, p.P50*1e3, p.P90*1e3, p.P99*1e3, p.Max*1e3)
		}
		fmt.Fprintf(out, "errors: %s\n", inWords(r.Errors))
		fmt.Fprintf(out, "the swarm itself: %.0f MiB, %.1f KiB for each agent, %.1f s of CPU\n",
			float64(r.Process.RSSBytes)/(1<<20), float64(r.Process.RSSPerAgent)/1024, r.Process.CPUSeconds)
	}
	fmt.Fprintf(out, "faults injected: %d (%s)\n", sum(r.Faults), inWords(r.Faults))
	v := r.Verification
	if v == nil {
		return
	}
	fmt.Fprintf(out, "verified: %d agents, %d differences, %.1f s in %d rounds (all of them: %.1f s), bytes of %d\n",
		v.Agents, v.Differences, v.Seconds, v.Rounds, v.LastRound, v.Bytes)
	for _, words := range append(v.First, v.Stories...) {
		fmt.Fprintln(out, "  "+words)
	}
}

func inWords(counts map[string]int64) string {
	words := []string{}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%s %d", name, counts[name]))
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
