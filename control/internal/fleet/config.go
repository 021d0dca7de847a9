// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"
)

// ConfigKind says what the bytes of a configuration are.
type ConfigKind string

// The kinds.
const (
	// KindCollector is an OpenTelemetry Collector configuration: a YAML mapping.
	KindCollector ConfigKind = "collector"
	// KindOpaque is any bytes.
	KindOpaque ConfigKind = "opaque"
)

// ContentType is what the agent is told the bytes are.
func (k ConfigKind) ContentType() string {
	if k == KindCollector {
		return "text/yaml"
	}
	return "application/octet-stream"
}

// Config is a named container of versions.
type Config struct {
	Tenant      TenantID
	ID          ConfigID
	Name        string
	Description string
	Kind        ConfigKind
	CreatedAt   time.Time
	// Read-only, derived: newest published version and newest version, 0 for none.
	LatestPublished int
	Latest          int
}

// VersionState is where a version stands.
type VersionState string

// The states; published versions are immutable.
const (
	VersionDraft     VersionState = "draft"
	VersionPublished VersionState = "published"
	VersionArchived  VersionState = "archived"
)

// VersionMove is a step in a version's life.
type VersionMove struct{ From, To VersionState }

// The moves: the one table of a version's life, which feeds the guards of the stores, the diagram in the documentation
// and the tests.
var (
	Publish   = VersionMove{VersionDraft, VersionPublished}
	Archive   = VersionMove{VersionPublished, VersionArchived}
	Unarchive = VersionMove{VersionArchived, VersionPublished}
)

// ConfigVersion is one version of a configuration: exact bytes, by hash.
type ConfigVersion struct {
	Tenant      TenantID
	Config      ConfigID
	Version     int
	State       VersionState
	Hash        ContentHash
	Offer       OfferHash
	Semantic    SemanticHash
	Size        int64
	ContentType string
	// Templated says that it asks for what is known of the agent that gets it.
	Templated bool
	// Revision grows with each change of a draft (optimistic concurrency).
	Revision int
	// RestoredFrom is the version whose bytes were brought back; 0 for none.
	RestoredFrom int
	// Waived are the ids of rules that it breaks and was published all the same.
	Waived    []string
	Note      string
	CreatedBy string
	CreatedAt time.Time
	// ChangedBy wrote the revision at ChangedAt.
	ChangedBy   string
	ChangedAt   time.Time
	PublishedAt time.Time
}

// Publication makes a draft immutable.
type Publication struct {
	Config  ConfigID
	Version int
	// Revision is the one that was looked at; 0 is whichever.
	Revision int
	// Semantic, Templated and Waived are what was found.
	Semantic  SemanticHash
	Templated bool
	Waived    []string
}

// ConfigFilter selects configurations; every field that is set must hold.
type ConfigFilter struct {
	NamePrefix string
	Kind       ConfigKind
	// Drafts: with a version that is a draft.
	Drafts bool
}

// VersionFilter selects versions of a configuration; every field that is set must hold.
type VersionFilter struct {
	State    VersionState
	Hash     ContentHash
	Semantic SemanticHash
}

// nameMark begins the first line of bytes that say which configuration they are of.
const nameMark = "# ampora.name:"

// NameIn returns the name that body gives itself in its first line ("# ampora.name: edge"), empty if it gives none.
func NameIn(body []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimPrefix(body, []byte("\ufeff")), []byte("\n"))
	name, named := bytes.CutPrefix(line, []byte(nameMark))
	if !named {
		return ""
	}
	return string(bytes.TrimSpace(name))
}

// ConfigMap is a rendered configuration: what is offered to an agent.
type ConfigMap []ConfigFile

// Rendered is the config map an agent is offered for a version: one entry under the empty name, which agents merge last.
func Rendered(hash ContentHash, size int64, contentType string) ConfigMap {
	return ConfigMap{{Name: "", ContentType: contentType, Hash: hash, Size: size}}
}

// OfferHash is the SHA-256 over the canonical form of the map: for each entry, sorted by name, the length-prefixed name
// and content type and the body's hash. Equal maps have equal hashes, whatever order they were written in.
func (m ConfigMap) OfferHash() OfferHash {
	sorted := slices.SortedFunc(slices.Values(m), func(a, b ConfigFile) int { return cmp.Compare(a.Name, b.Name) })
	h := sha256.New()
	h.Write([]byte("ampora offer v1\x00"))
	field := func(s string) {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s)))) //nolint:gosec // names and types are bounded far below 4 GiB
		h.Write([]byte(s))
	}
	for _, f := range sorted {
		field(f.Name)
		field(f.ContentType)
		h.Write(f.Hash[:])
	}
	return OfferHash(h.Sum(nil))
}

// ImmediateLimit is how many agents one act may change without a rollout, unless an installation is configured otherwise.
const ImmediateLimit = 20

// Target is what an assignment is for: exactly one of Agent and Group is set. An agent's own assignment decides, else its
// group's, else the default.
type Target struct {
	Agent AgentID
	Group GroupID
	// Default says that the agent got it when it joined its group: it goes when the agent leaves.
	Default bool
}

// Assignment is what a group or an agent shall end up with. Only the API writes it.
type Assignment struct {
	Tenant     TenantID
	Target     Target
	Config     ConfigID
	ConfigName string // read-only, joined
	Version    int
	Offer      OfferHash // read-only, joined
	CreatedBy  string
	CreatedAt  time.Time
	Generation Generation
}
