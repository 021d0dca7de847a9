// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package bus is the contract between gateways and the control plane: small
// bounded streams of opaque payloads, and registers that keep the latest value of
// something. Package bustest holds every implementation to it; each sentence here
// has a test there.
//
// The bus carries messages, never authority. Whatever it holds may vanish at any
// moment without harm to anything durable: the messages are idempotent state, and
// a reader that missed some asks their sender to say it all again. So there is
// one promise that nothing may break: a loss in a stream is never silent. A reader
// that continues from the position it was given sees each message once and in
// order, or is told [Batch.Lost]. Registers promise less: one that is lost reads as
// one that was never set.
//
// What you may not assume: that a message arrives (only that its loss shows);
// that it arrives once (a Publish that failed may have happened, and so may its
// repetition); any order between partitions, gateways or publishers; that a read
// removes anything.
//
// All methods may be called from many goroutines. Payloads are immutable from
// the moment they are handed over, in both directions.
package bus

import (
	"context"
	"hash/fnv"
	"time"

	"gitlab.com/ampora/ampora/shared/fault"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Partitions is the number of uplink partitions. It is part of the stored state
// of every installation (positions, leases) and never changes.
const Partitions = 64

// MaxPayload is the largest payload in bytes. Larger bodies travel by hash, over
// the internal service.
const MaxPayload = 1 << 20

// PartitionOf returns the partition of an agent's uplinks, 0 to 63: the 64-bit
// FNV-1a hash of its id modulo [Partitions]. Messages of one agent share a
// partition, which is what keeps them in order. The function never changes.
func PartitionOf(agent identity.AgentID) int {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(agent))
	return int(hash.Sum64() % Partitions)
}

// Position names a place in one stream of one bus. It is opaque: only the bus that
// made it understands it, and it orders nothing. It is at most 128 bytes of
// printable ASCII. It may be stored and used after a restart of reader or bus. "" is
// before the oldest retained message.
type Position string

// Message is a payload and its place: reading after Position begins with the
// message that follows.
type Message struct {
	Position Position
	Payload  []byte
}

// Outgoing is a payload for one partition.
type Outgoing struct {
	Partition int
	Payload   []byte
}

// Batch is what one read returned.
type Batch struct {
	// Messages, oldest first; never more than asked for. Empty only when Lost.
	Messages []Message
	// Next is where to go on: at the last message or past a loss that follows it,
	// and never "". After a loss without messages only Next leads on; reading again
	// from the old position reports the same loss again, at once.
	Next Position
	// Lost says that messages after the position read from may be gone unread:
	// trimmed, expired, flushed, restarted, failed over. The reader must ask for a
	// resync of what the stream covers. It is never false after a loss; it may be
	// true without one where something did happen to the bus.
	//
	// A read after "" always reports it, because a reader without a position cannot
	// know what it missed, and so does one after a position that this bus does not
	// know. The messages are then the retained ones from the oldest on.
	Lost bool
}

// Errors of the bus; errors.Is finds them in whatever an implementation returns.
// A call ended by its context returns an error that is the context's.
var (
	// ErrFull: the untrimmed messages of a partition, or the unexpired and
	// unreceived ones of a gateway, have reached the bound of the bus. It is
	// back-pressure: it is not given for less, nothing retained is dropped in its
	// place, and the message that met it was not accepted.
	ErrFull = fault.New(fault.ResourceExhausted, "BUS_FULL", "the bus is full")
	// ErrUnavailable: the bus cannot be reached; the call may have happened.
	ErrUnavailable = fault.New(fault.Unavailable, "BUS_UNAVAILABLE", "the bus is unavailable")
	// ErrTooLarge: a payload exceeds MaxPayload; nothing of the call was accepted.
	ErrTooLarge = fault.New(fault.Invalid, "BUS_PAYLOAD_TOO_LARGE", "a bus message has more than %d bytes", MaxPayload)
	// ErrInvalid: a partition outside 0 to 63, an empty gateway id, a ttl that is not
	// positive, or a register without a shelf or name: a mistake of the caller. Nothing
	// of the call was accepted.
	ErrInvalid = fault.New(fault.Internal, "BUS_INVALID_CALL", "the bus was called wrongly")
	// ErrClosed: Close was called.
	ErrClosed = fault.New(fault.Unavailable, "BUS_CLOSED", "the bus is closed")
)

// Uplinks carries messages from gateways to the control plane in [Partitions]
// streams. Any number of publishers and readers may use a partition; readers do
// not see each other.
type Uplinks interface {
	// Publish appends the messages, each to its partition. A nil error says that
	// all were accepted; after an error some may have been. Messages of one
	// partition keep their order within a call and across the calls that one
	// publisher makes one after the other.
	Publish(ctx context.Context, messages ...Outgoing) error
	// Read returns up to limit messages of a partition that follow after. It waits
	// until there is a message or a loss to report, or the context is done; a
	// loss without messages is reported within seconds. It removes nothing. A limit
	// below 1 counts as 1.
	Read(ctx context.Context, partition int, after Position, limit int) (Batch, error)
	// Trim forgets the messages of a partition at or before upTo and makes room for
	// others. Trimming what is trimmed already, "" or a position that this bus does
	// not know changes nothing and is no error.
	Trim(ctx context.Context, partition int, upTo Position) error
}

// Downlinks carries messages from the control plane to one stream per gateway,
// which that gateway alone reads.
type Downlinks interface {
	// Send appends payloads to a gateway's stream; the gateway need not be there.
	// Each is dropped when ttl has passed since, and is never received afterwards.
	// The error and the order are as for Publish.
	Send(ctx context.Context, gateway identity.GatewayID, ttl time.Duration, payloads ...[]byte) error
	// Receive returns up to limit messages for the gateway that follow after, as Read
	// does. Reading after a position is the receipt for all messages up to it: the
	// bus may forget them.
	Receive(ctx context.Context, gateway identity.GatewayID, after Position, limit int) (Batch, error)
}

// Shelf is where registers of one purpose stand. It decides who may read and write
// them: each gateway has a shelf of marks that it alone writes, and the shelves of
// polling agents are shared by all gateways.
type Shelf string

// Marks is the shelf on which a gateway notes how far it has heard its agents: the
// gateway writes, the control plane reads.
func Marks(gateway identity.GatewayID) Shelf { return Shelf("marks/" + string(gateway)) }

// The shelves of agents that poll, whose messages may come through any gateway.
const (
	// Polls is what gateways know of polling agents: every gateway reads and writes.
	Polls Shelf = "polls"
	// Mail waits for polling agents: the control plane writes, every gateway reads.
	Mail Shelf = "mail"
)

// MaxRegister is the largest value of a register in bytes.
const MaxRegister = 64 << 10

// Register is a value under a name of 1 to 200 bytes of printable ASCII without
// spaces.
type Register struct {
	Name  string
	Value []byte
}

// Registers keeps the latest value of each name on a shelf. Two writers of one
// register at once leave the value of one of them. Values are at most
// [MaxRegister] bytes; a larger one is ErrTooLarge and nothing is set.
type Registers interface {
	// Set replaces the values of the registers. Each reads as absent when ttl has
	// passed since, or earlier if the bus lost it. After an error some may have been
	// set.
	Set(ctx context.Context, shelf Shelf, ttl time.Duration, registers ...Register) error
	// Get returns the values of the names, in their order; nil for an absent one. An
	// empty value that was set is empty and not nil.
	Get(ctx context.Context, shelf Shelf, names ...string) ([][]byte, error)
}

// Bus is streams in both directions and the registers, which end together.
type Bus interface {
	Uplinks
	Downlinks
	Registers
	// Close ends all waiting calls; they and all later ones return ErrClosed. Closing
	// twice is no error.
	Close() error
}
