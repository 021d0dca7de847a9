// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package swarm

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
)

// Fault is something that goes wrong, as often as it is asked for.
type Fault struct {
	// Kind is one of [FaultKinds].
	Kind string
	// Rate is how many agents it befalls per second. 0: Count at once.
	Rate float64
	// Count is how many agents it befalls at once, At after the beginning.
	Count int
	At    time.Duration
}

// FaultKinds says what each kind does.
func FaultKinds() map[string]string {
	words := map[string]string{}
	for kind, does := range injuries {
		words[kind] = does.words
	}
	return words
}

// Times of faults.
const (
	freezeTime = 2 * time.Minute // longer than any server should wait
	slowTime   = 30 * time.Second
	slowness   = 3 * time.Second // between two messages
	leftOpen   = 30 * time.Second
	burstSize  = 50
	slowUnread = 100
	cloneWait  = 15 * time.Second // for its first answer
	cloneLife  = 2 * time.Second  // after that
)

// injury is what a kind of fault does to an agent. It is called under the agent's lock,
// while the agent is connected and not frozen, and says whether it did something.
type injury struct {
	words string
	do    func(*agent) bool
}

var injuries = map[string]injury{
	"drop":      {"the TCP connection is cut; the agent comes back at once", (*agent).drop},
	"storm":     {"like drop; for cutting many at the same moment", (*agent).drop},
	"half-open": {"for two minutes the agent neither reads, writes nor answers pings, and its connection stays open", (*agent).freeze},
	"duplicate": {"the agent connects again while its old connection stays open, unread, for half a minute", (*agent).duplicate},
	"restart":   {"the process starts anew: sequence numbers from 0, everything reported", (*agent).restart},
	"new-uid":   {"like restart, and the agent has forgotten its instance uid", (*agent).forget},
	"slow":      {"for half a minute the agent reads one message in three seconds, and sends a hundred heartbeats first", (*agent).slacken},
	"burst":     {"fifty reports of changed health at once", (*agent).burst},
	"clone":     {"a second process with the same key, uid and sequence number connects and stays for two seconds; once for an agent", (*agent).clone},
}

// ParseFault reads KIND=N/s, KIND=N/m or KIND=N@TIME.
func ParseFault(text string) (Fault, error) {
	kind, often, _ := strings.Cut(text, "=")
	if _, known := injuries[kind]; !known {
		return Fault{}, fmt.Errorf("fault %q: the kinds are %s", kind, strings.Join(slices.Sorted(maps.Keys(injuries)), ", "))
	}
	wrong := fmt.Errorf("fault %q: how often is N/s, N/m or N@TIME, like 2/s or 500@30s", text)
	if count, at, ok := strings.Cut(often, "@"); ok {
		n, err := strconv.Atoi(count)
		after, timeErr := time.ParseDuration(at)
		if err != nil || timeErr != nil || n < 1 || after < 0 {
			return Fault{}, wrong
		}
		return Fault{Kind: kind, Count: n, At: after}, nil
	}
	number, unit, _ := strings.Cut(often, "/")
	rate, err := strconv.ParseFloat(number, 64)
	if unit == "m" {
		rate /= 60
	}
	if err != nil || rate <= 0 || rate > 10000 || unit != "s" && unit != "m" {
		return Fault{}, wrong
	}
	return Fault{Kind: kind, Rate: rate}, nil
}

// inject injects one fault until ctx ends.
func (s *Swarm) inject(ctx context.Context, f Fault) {
	if f.Rate > 0 {
		s.often(ctx, f.Rate, func() { s.befall(f.Kind, 1) })
		return
	}
	if sleep(ctx, f.At) == nil {
		s.befall(f.Kind, f.Count)
	}
}

// often calls do at the rate per second until ctx ends.
func (s *Swarm) often(ctx context.Context, rate float64, do func()) {
	begin, done := time.Now(), 0.0
	for sleep(ctx, max(10*time.Millisecond, time.Duration(float64(time.Second)/rate))) == nil {
		for ; done < rate*time.Since(begin).Seconds(); done++ {
			do()
		}
	}
}

// befall does a kind of fault to so many agents, chosen by chance among those that it
// can befall.
func (s *Swarm) befall(kind string, count int) {
	do := injuries[kind].do
	for _, i := range rand.Perm(len(s.agents)) {
		if count == 0 {
			return
		}
		if s.agents[i].hurt(kind, do) {
			s.count.fault(kind)
			count--
		}
	}
}

func (a *agent) hurt(kind string, do func(*agent) bool) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.link == nil || a.frozen != nil || !a.answered || !do(a) {
		return false
	}
	a.story.add(turn{words: "fault: " + kind})
	return true
}

func (a *agent) drop() bool {
	a.link.cut()
	return true
}

func (a *agent) freeze() bool {
	thaw := make(chan struct{})
	a.frozen = thaw
	a.link.interrupt()
	time.AfterFunc(freezeTime, func() { a.thaw(thaw) })
	return true
}

// thaw wakes a frozen agent, unless that was done.
func (a *agent) thaw(frozen chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if frozen != nil && a.frozen == frozen {
		select {
		case <-frozen:
		default:
			close(frozen)
		}
	}
}

func (a *agent) duplicate() bool {
	if a.polls {
		return false
	}
	a.left = true
	a.link.interrupt()
	return true
}

func (a *agent) restart() bool {
	a.sequence, a.owed, a.unsent = 0, everything, nil
	a.started = time.Now()
	a.changed = a.started
	a.link.cut()
	return true
}

func (a *agent) forget() bool {
	copy(a.uid[:], rawopamp.NewUID())
	return a.restart()
}

func (a *agent) slacken() bool {
	if a.polls {
		return false
	}
	a.slow = time.Now().Add(slowTime)
	a.link.narrow()
	for range slowUnread {
		a.flush()
	}
	return true
}

func (a *agent) burst() bool {
	for range burstSize {
		a.flip()
		a.flush()
	}
	return true
}

func (a *agent) clone() bool {
	if a.polls || a.cloned {
		return false
	}
	a.cloned = true
	copied := a.message(everything)
	peer := a.swarm.config.Target.peer(a.index, a.index+int(a.dials.Load())).With(a.identity.Certificate)
	go live(peer, proto.CloneOf(copied))
	return true
}

// live is the life of a clone: it says what its original says until it was heard.
func live(peer rawopamp.Peer, says *protobufs.AgentToServer) {
	ctx, cancel := context.WithTimeout(context.Background(), dialTime)
	defer cancel()
	conn, err := peer.Dial(ctx)
	if err != nil {
		return
	}
	defer conn.Close()
	if conn.Send(says) != nil {
		return
	}
	if _, err := conn.Receive(cloneWait); err == nil {
		_, _ = conn.Receive(cloneLife) // whatever else it is told
	}
}

// flip changes the health of the agent.
func (a *agent) flip() {
	a.changed = time.Now()
	if a.sick == "" {
		a.sick = "exporter otlp: connection refused, " + strconv.Itoa(rand.IntN(1000)) + " items dropped"
	} else {
		a.sick = ""
	}
	a.owed |= ofHealth
}

// relabel changes the labels of the agent.
func (a *agent) relabel() {
	a.relabels++
	a.owed |= ofDescription
}
