// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticks is how many a second of CPU has in /proc: USER_HZ, which is 100 on every
// platform of Linux that matters.
const ticks = 100

// stat are the fields of /proc/PID/stat behind the name, which may hold anything.
func stat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:])), nil
}

// Fields of /proc/PID/stat behind the name (proc(5)).
const (
	parentField = 1
	userField   = 11
	systemField = 12
)

// CPU is what processes have used until now, in seconds.
func CPU(pids []int) (seconds float64, err error) {
	for _, pid := range pids {
		fields, err := stat(pid)
		if err != nil {
			return 0, err
		}
		user, _ := strconv.Atoi(fields[userField]) // the kernel's own numbers
		system, _ := strconv.Atoi(fields[systemField])
		seconds += float64(user+system) / ticks
	}
	return seconds, nil
}

// family is a process with all that it started, and they in turn.
func family(root int) []int {
	parents := map[int]int{}
	paths, _ := filepath.Glob("/proc/[0-9]*") // the pattern is well-formed
	for _, path := range paths {
		pid, _ := strconv.Atoi(filepath.Base(path))
		if fields, err := stat(pid); err == nil { // it may have ended
			parents[pid], _ = strconv.Atoi(fields[parentField])
		}
	}
	list := []int{root}
	for i := 0; i < len(list); i++ {
		for pid, parent := range parents {
			if parent == list[i] {
				list = append(list, pid)
			}
		}
	}
	return list
}

// Resident is the memory of processes in KiB.
func Resident(pids []int) (kib float64, err error) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
				n, _ := strconv.Atoi(strings.Fields(value)[0]) // likewise
				kib += float64(n)
			}
		}
	}
	return kib, nil
}

// get asks a target's listener of operations.
func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(text), err
}

// collect makes all processes of a target collect their garbage, and waits while their
// runtimes return memory, which they do in the background: until three seconds bring
// nothing more, or the time is up.
func (r *running) collect(ctx context.Context, limit time.Duration) error {
	for _, ops := range r.Ops {
		for range 2 { // what was in a sync.Pool survives the first
			if _, err := get(ctx, ops+"/debug/pprof/heap?gc=1"); err != nil {
				return err
			}
		}
	}
	const step, noMore = 3 * time.Second, 0.995
	last, err := Resident(r.PIDs)
	for end := time.Now().Add(limit); err == nil && time.Now().Before(end); {
		if err := sleep(ctx, min(step, time.Until(end))); err != nil {
			return err
		}
		before := last
		if last, err = Resident(r.PIDs); last > before*noMore {
			break
		}
	}
	return err
}

// metric is the sum of a metric without labels over all processes, 0 if nobody has it.
func (r *running) metric(ctx context.Context, name string) (sum float64, err error) {
	for _, ops := range r.Ops {
		text, err := get(ctx, ops+"/metrics")
		if err != nil {
			return 0, err
		}
		for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
			if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
				n, _ := strconv.ParseFloat(value, 64) // 0 for what is no number
				sum += n
			}
		}
	}
	return sum, nil
}

func sleep(ctx context.Context, span time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(span):
		return nil
	}
}
