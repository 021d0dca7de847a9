// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons of a refused place in a list.
const (
	ReasonPageToken = "PAGE_TOKEN_INVALID"
	ReasonCursor    = "CURSOR_INVALID"
)

// defaultPageSize is the size of a page that asks for none.
const defaultPageSize = 100

// A place in a list is opaque to callers: base64url of
//
//	version  1 byte   placeVersion
//	sum      4 bytes  CRC-32 (IEEE) of the list's name, a zero byte and the key
//	key      n bytes  what the store goes on from
//
// The sum is no protection, and the key needs none: it selects among rows the caller may read anyway. It tells places of
// other lists and damaged copies apart before the store has to make sense of them.
const (
	placeVersion byte = 1
	placeKeyAt        = 1 + crc32.Size
)

// place writes the key of a place in the named list; the empty key is the empty text.
func place(list, key string) string {
	if key == "" {
		return ""
	}
	raw := binary.BigEndian.AppendUint32([]byte{placeVersion}, placeSum(list, key))
	return base64.RawURLEncoding.EncodeToString(append(raw, key...))
}

// keyOf reads a place of the named list; ok is false for anything that place did not write for it. Writing the key once
// more checks version and sum, and what base64 would overlook.
func keyOf(list, text string) (key string, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) <= placeKeyAt {
		return "", text == ""
	}
	key = string(raw[placeKeyAt:])
	return key, place(list, key) == text
}

func placeSum(list, key string) uint32 {
	return crc32.ChecksumIEEE([]byte(list + "\x00" + key))
}

// pageRequest is what every listing request has.
type pageRequest interface {
	GetPageSize() int32
	GetPageToken() string
}

// pageOf is the page a request of the named list asks for.
func pageOf(list string, r pageRequest) (fleet.Page, error) {
	key, ok := keyOf(list, r.GetPageToken())
	if !ok {
		return fleet.Page{}, fault.New(fault.Invalid, ReasonPageToken, "the page token is not one that this list gave out")
	}
	size := int(r.GetPageSize())
	if size == 0 {
		size = defaultPageSize
	}
	return fleet.Page{Size: size, After: key}, nil
}

// The names of the lists, as they go into places.
const (
	listAgents          = "agents"
	listHistory         = "history"
	listGroups          = "groups"
	listConfigs         = "configs"
	listVersions        = "versions"
	listAssignments     = "assignments"
	listBootstrapTokens = "bootstrap_tokens"
	listAPITokens       = "api_tokens"
	listTokenPools      = "token_pools"
	listGateways        = "gateways"
	listJoinTokens      = "join_tokens"
	listEvents          = "events"
	listAudit           = "audit"
	listRollouts        = "rollouts"
	listRolloutMembers  = "rollout_members"
	stream              = "stream" // of events: its places are cursors
)

// beginning is the place before the first event; the empty text means "from now on" to callers.
const beginning = "beginning"

func cursorText(c fleet.Cursor) string {
	if c == "" {
		return place(stream, beginning)
	}
	return place(stream, string(c))
}

func cursorFrom(text string) (fleet.Cursor, error) {
	key, ok := keyOf(stream, text)
	switch {
	case !ok:
		return "", fault.New(fault.Invalid, ReasonCursor, "the cursor is not one that this stream gave out")
	case key == beginning:
		return "", nil
	default:
		return fleet.Cursor(key), nil
	}
}
