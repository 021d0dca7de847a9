// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package relay

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/uplink"
)

// Bounds of one call of the bus.
const (
	batchMessages = 256
	batchBytes    = 4 << 20
	publishTime   = 10 * time.Second
)

// message is an envelope, or what it became by numbering and sealing. size counts as
// long as the bus does not have it.
type message struct {
	payload []byte
	size    int
}

// lane is what waits for one partition, in its order.
type lane struct {
	queue     []message // neither numbered nor sealed yet
	bytes     int       // of everything in the lane
	accepted  uint64
	published uint64 // of those accepted

	// Of Run alone.
	counter uint64
	again   []message // what a call failed with: repeated one by one, before the queue
	rest    backoff
}

func (l *lane) full() bool {
	return l.accepted-l.published >= laneMessages || l.bytes >= laneBytes
}

func (l *lane) add(m message) {
	l.queue = append(l.queue, m)
	l.bytes += m.size
	l.accepted++
}

// take removes the oldest of the queue.
func (l *lane) take() message {
	oldest := l.queue[0]
	l.queue[0] = message{}
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil
	}
	return oldest
}

// number numbers and seals an envelope. The fields of a message may come in any order,
// so nothing is serialised twice.
func (l *lane) number(envelope []byte, sealer *uplink.Sealer) []byte {
	l.counter++
	number := protowire.AppendTag(make([]byte, 0, counterRoom), counterField, protowire.VarintType)
	return sealed(envelope, protowire.AppendVarint(number, l.counter), sealer.AppendUplink)
}

const counterField = 3 // relay.v1.Uplink.counter

// FlushTime is how long the publisher goes on after its context has ended.
const FlushTime = 5 * time.Second

// Run publishes until the context ends, and then whatever still waits, for at most
// [FlushTime]: the last messages of a gateway are the ends of its sessions.
func (p *Publisher) Run(ctx context.Context) error {
	if !p.told.Await(ctx) {
		return nil
	}
	p.sealer = p.told.Key().Sealer()
	flush, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(FlushTime, cancel) })()
	stopping := ctx.Done()
	for flush.Err() == nil {
		wait, more := p.turn(flush)
		if more {
			continue
		}
		if p.Waiting() == 0 && ctx.Err() != nil {
			return nil
		}
		select {
		case <-p.arrive:
		case <-time.After(wait):
		case <-flush.Done():
		case <-stopping:
			stopping = nil
		}
	}
	return nil
}

// turn makes the calls that are due: one for each lane that repeats something, and one
// for a batch of the others. It returns how long nothing is due, unless there is more.
func (p *Publisher) turn(ctx context.Context) (wait time.Duration, more bool) {
	wait = time.Hour
	for i := range p.lanes {
		lane := &p.lanes[i]
		if len(lane.again) == 0 {
			continue
		}
		if left := max(p.rest.left(), lane.rest.left()); left > 0 {
			wait = min(wait, left)
			continue
		}
		p.repeat(ctx, i)
		more = true
	}
	if left := p.rest.left(); left > 0 {
		return min(wait, left), false
	}
	batch := p.batch()
	if len(batch) == 0 {
		return wait, more
	}
	for i, next := range batch {
		batch[i].payload = p.lanes[next.partition].number(next.payload, p.sealer)
	}
	p.publish(ctx, batch)
	return wait, true
}

// parcel is a message on its way, and its partition.
type parcel struct {
	partition int
	message
}

// batch takes what one call may carry from the lanes that have nothing to repeat,
// beginning with another one each time. A lane that was full lately gets no company: a
// call that fails is repeated by all that had a part in it.
func (p *Publisher) batch() []parcel {
	p.mu.Lock()
	defer p.mu.Unlock()
	var batch []parcel
	size := 0
	p.first++
	for i := range p.lanes {
		partition := (p.first + i) % len(p.lanes)
		lane := &p.lanes[partition]
		if len(lane.again) > 0 || lane.rest.lately() && len(batch) > 0 {
			continue
		}
		for len(lane.queue) > 0 && len(batch) < batchMessages && size < batchBytes {
			next := lane.take()
			batch = append(batch, parcel{partition, next})
			size += next.size
		}
		if lane.rest.lately() && len(batch) > 0 {
			break
		}
	}
	return batch
}

// publish sends a batch. What a failed call left unsaid is repeated message by message:
// a bus that is nearly full takes the first of a batch each time and would otherwise
// fill with copies. The numbers stay, so a repetition is no loss, and the control plane
// knows a copy by its number.
func (p *Publisher) publish(ctx context.Context, batch []parcel) {
	err := p.call(ctx, batch)
	if err != nil {
		p.log.WarnContext(ctx, "the bus does not take uplinks", "error", err, "messages", len(batch))
	}
	for _, sent := range batch {
		lane := &p.lanes[sent.partition]
		if err != nil {
			lane.again = append(lane.again, sent.message)
			continue
		}
		lane.rest = backoff{}
		p.done(sent)
	}
}

// repeat sends the oldest message of a lane that a call has failed with.
func (p *Publisher) repeat(ctx context.Context, partition int) {
	lane := &p.lanes[partition]
	oldest := parcel{partition, lane.again[0]}
	switch err := p.call(ctx, []parcel{oldest}); {
	case errors.Is(err, bus.ErrFull):
		lane.rest = lane.rest.longer()
	case err == nil:
		lane.rest = lane.rest.over()
		if lane.again = lane.again[1:]; len(lane.again) == 0 {
			lane.again = nil
		}
		p.done(oldest)
	}
}

// call publishes. A full partition concerns its lane; any other failure is one of the
// bus, and all lanes wait.
func (p *Publisher) call(ctx context.Context, parcels []parcel) error {
	ctx, cancel := context.WithTimeout(ctx, publishTime)
	defer cancel()
	messages := make([]bus.Outgoing, len(parcels))
	for i, parcel := range parcels {
		messages[i] = bus.Outgoing{Partition: parcel.partition, Payload: parcel.payload}
	}
	p.calling(true)
	err := p.bus.Publish(ctx, messages...)
	if err == nil || errors.Is(err, bus.ErrFull) {
		p.calling(false)
		p.rest = backoff{}
	} else {
		p.rest = p.rest.longer()
	}
	return err
}

// calling notes since when there is no answer.
func (p *Publisher) calling(open bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !open:
		p.since = time.Time{}
	case p.since.IsZero():
		p.since = time.Now()
	}
}

// done counts a message that the bus has.
func (p *Publisher) done(sent parcel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lane := &p.lanes[sent.partition]
	lane.published++
	lane.bytes -= sent.size
	p.waiting--
	p.bytes -= sent.size
}

// backoff is how long to leave something alone: from 20 ms to 2 s, and at random up to
// as much more. The zero value is of something that works.
type backoff struct {
	pause time.Duration
	until time.Time
}

const leastPause, longestPause = 20 * time.Millisecond, 2 * time.Second

func (b backoff) longer() backoff {
	pause := min(max(leastPause, 2*b.pause), longestPause)
	return backoff{pause, time.Now().Add(pause + rand.N(pause))}
}

// over ends a pause, and remembers that there was one.
func (b backoff) over() backoff { return backoff{pause: min(b.pause, leastPause/2)} }

// lately says that there was a pause, and nothing since that shows it to be past.
func (b backoff) lately() bool { return b.pause > 0 }

func (b backoff) left() time.Duration {
	if b.until.IsZero() {
		return 0
	}
	return time.Until(b.until)
}
