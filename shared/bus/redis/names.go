// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/identity"
)

// names makes the names of keys and channels. They are built so that patterns of Redis's
// access rules can tell gateways apart: a gateway's id never holds a character that
// divides names or means something in a pattern.
type names struct{ prefix string }

var errPrefix = errors.New("the prefix of the bus must be 1 to 64 letters, digits, '.', '_', ':' and '-'")

const maxPrefix = 64

func newNames(prefix string) (names, error) {
	if prefix == "" {
		prefix = DefaultPrefix
	}
	if len(prefix) > maxPrefix {
		return names{}, errPrefix
	}
	for i := range len(prefix) {
		if c := prefix[i]; c != ':' && !plain(c) {
			return names{}, errPrefix
		}
	}
	return names{prefix}, nil
}

// stream is one stream and where its appends are told.
type stream struct {
	key     string
	channel string
	// idle is how long the stream outlasts its last use; 0 means for ever. Gateways come
	// and go, so nobody else would remove what was meant for one that is gone.
	idle time.Duration
}

// leastIdle is how long a gateway's stream outlasts its last read and its last message.
const leastIdle = 24 * time.Hour

func (n names) uplinks() string { return n.prefix + ":up" }

func (n names) uplink(partition int) stream {
	return stream{key: n.uplinks() + ":" + strconv.Itoa(partition), channel: n.uplinks()}
}

func (n names) downlink(gateway identity.GatewayID) stream {
	key := n.prefix + ":down:" + escape(string(gateway))
	return stream{key: key, channel: key, idle: leastIdle}
}

// register is the key of a register. Shelves are few and made by package bus; none is
// called as one of the streams above.
func (n names) register(shelf bus.Shelf, name string) string {
	return n.shelf(shelf) + name
}

// shelf is what the keys of a shelf begin with. It divides a name once: what follows may be
// an id, whatever is in it.
func (n names) shelf(shelf bus.Shelf) string {
	kind, id, divided := strings.Cut(string(shelf), "/")
	key := n.prefix + ":" + escape(kind) + ":"
	if divided {
		key += escape(id) + ":"
	}
	return key
}

// escape writes what could be taken for more than a name as %XX.
func escape(name string) string {
	var escaped strings.Builder
	for i := range len(name) {
		if plain(name[i]) {
			escaped.WriteByte(name[i])
		} else {
			fmt.Fprintf(&escaped, "%%%02X", name[i])
		}
	}
	return escaped.String()
}

func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}
