// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"slices"
	"time"
)

// EnrolmentMethod is how an identity got its first certificate, or the first since it came back.
type EnrolmentMethod string

// The methods (product specification, section 4).
const (
	EnrolledByAgentCSR  EnrolmentMethod = "agent_csr"
	EnrolledByServerKey EnrolmentMethod = "server_key"
	EnrolledByEST       EnrolmentMethod = "est"
	// EnrolledAsChild marks an agent that a parent identity speaks for.
	EnrolledAsChild EnrolmentMethod = "child"
)

// Agent is one identity and the summary of what is known of it. What it reports in detail stands in its parts.
type Agent struct {
	Tenant     TenantID
	ID         AgentID
	EnrolledAt time.Time
	Method     EnrolmentMethod
	// FirstSeenAt is the identity's first mTLS connection.
	FirstSeenAt time.Time
	Parent      AgentID // set for a child
	MaxChildren int

	Group     GroupID // empty: none
	GroupName string  // read-only, joined

	InstanceUID InstanceUID
	// QuarantinedAt is set while the identity is refused because several agents live with it.
	QuarantinedAt time.Time

	// Summary columns kept by the inbox out of the description and health parts.
	ServiceName    string
	ServiceVersion string
	HostName       string
	Capabilities   Capabilities
	AcceptsConfig  bool
	Healthy        *bool // nil: never said

	// Tags are what operators and the enrolment say of it.
	Tags map[string]Tag

	Session   Session
	Serial    Serial // of the certificate last presented
	Delivery  Delivery
	Attention []Attention
}

// DisplayName is what a person would call the agent.
func (a Agent) DisplayName() string {
	switch {
	case a.ServiceName != "" && a.HostName != "":
		return a.ServiceName + "@" + a.HostName
	case a.ServiceName != "":
		return a.ServiceName
	case a.HostName != "":
		return a.HostName
	default:
		return string(a.ID)
	}
}

// Capabilities is the agent's capability bit set as it sent it, unknown bits included (OpAMP AgentCapabilities).
type Capabilities uint64

// AcceptsConnectionSettings is AcceptsOpAMPConnectionSettings.
const AcceptsConnectionSettings Capabilities = 0x100

// AcceptsRestart is AcceptsRestartCommand.
const AcceptsRestart Capabilities = 0x400

// capabilityNames are OpAMP's names of the bits, from the lowest on.
var capabilityNames = [...]string{
	"ReportsStatus", "AcceptsRemoteConfig", "ReportsEffectiveConfig", "AcceptsPackages", "ReportsPackageStatuses",
	"ReportsOwnTraces", "ReportsOwnMetrics", "ReportsOwnLogs", "AcceptsOpAMPConnectionSettings", "AcceptsOtherConnectionSettings",
	"AcceptsRestartCommand", "ReportsHealth", "ReportsRemoteConfig", "ReportsHeartbeat", "ReportsAvailableComponents",
	"ReportsConnectionSettingsStatus",
}

// Names are the bits by OpAMP's names, lowest first; one without a name is "bit N".
func (have Capabilities) Names() []string {
	var names []string
	for n := range 64 {
		switch {
		case have&(1<<n) == 0:
		case n < len(capabilityNames):
			names = append(names, capabilityNames[n])
		default:
			names = append(names, fmt.Sprintf("bit %d", n))
		}
	}
	return names
}

// CapabilityNamed is the bit of OpAMP's name.
func CapabilityNamed(name string) (Capabilities, bool) {
	n := slices.Index(capabilityNames[:], name)
	return 1 << max(n, 0), n >= 0
}

// Has reports whether all bits of c are set.
func (have Capabilities) Has(c Capabilities) bool { return have&c == c }

// Transport is how an agent speaks OpAMP.
type Transport string

// The transports.
const (
	TransportWebSocket Transport = "websocket"
	TransportHTTP      Transport = "http"
)

// Session is an agent's present or last connection. It is written when claimed and when ended, and at no other time.
type Session struct {
	Epoch       Epoch
	Gateway     GatewayID
	BootID      uint64
	Transport   Transport
	Peer        string
	ConnectedAt time.Time
	LastSeenAt  time.Time
	EndedAt     time.Time // zero: open
	EndReason   string
	// GatewayLeaseUntil is the lease of the gateway that holds it, GatewayBusLost whether that gateway cannot put onto the
	// bus what agents say (read-only, joined).
	GatewayLeaseUntil time.Time
	GatewayBusLost    bool
}

// EndDrained is the end reason of sessions whose gateway stopped: their agents are asked to come back to another.
const EndDrained = "DRAINED"

// MoveGrace is how long an agent whose session ended with EndDrained counts as being on its way to another gateway. It
// outlasts the drain of a gateway and the agent's pause before it connects again, so that an upgrade shows nobody offline.
const MoveGrace = 90 * time.Second

// Presence is derived from the session and its gateway.
type Presence int

// The presences.
const (
	// PresenceOffline: there is no session, or it ended.
	PresenceOffline Presence = iota + 1
	// PresenceOnline: the session is open, its gateway has its lease and is heard.
	PresenceOnline
	// PresenceUnknown: nobody can say. The session is open, but its gateway's lease has run out or its bus is lost; or it
	// ended because its gateway stopped, less than MoveGrace ago.
	PresenceUnknown
)

// Presence is the agent's presence at now.
func (s Session) Presence(now time.Time) Presence {
	switch {
	case s.Epoch == 0 || !s.EndedAt.IsZero() && !s.moving(now):
		return PresenceOffline
	case s.EndedAt.IsZero() && now.Before(s.GatewayLeaseUntil) && !s.GatewayBusLost:
		return PresenceOnline
	default:
		return PresenceUnknown
	}
}

// moving reports whether the session ended for the agent to open another at another gateway, which it still may.
func (s Session) moving(now time.Time) bool {
	return s.EndReason == EndDrained && now.Before(s.EndedAt.Add(MoveGrace))
}

// Claim asks for the session of the agent that speaks as UID over a connection of Identity.
type Claim struct {
	Tenant      TenantID
	Identity    AgentID
	Serial      Serial
	Fingerprint Fingerprint
	UID         InstanceUID
	Gateway     GatewayID
	BootID      uint64
	Transport   Transport
	Peer        string
	Takeover    Takeover
	// Contested is the session that the takeover is of. It takes no other: while one was contested the agent may have
	// come back elsewhere, and this connection may be the one that it left.
	Contested Epoch
	// Heard is how far the holder of the session has heard the agent, if that is known.
	Heard Heard
	At    time.Time
}

// Heard is how far an agent was heard in a session: further than the reports on record say, because heartbeats end in
// the gateway. It counts only for the session it is about. The zero Heard says nothing.
type Heard struct {
	Gateway  GatewayID // empty for an agent that polls, which any gateway may have heard
	BootID   uint64
	Epoch    Epoch
	Sequence Sequence
	// Whole says that the agent's state is on record or on its way, whole up to the sequence.
	Whole bool
}

// Standing is the session that a claim is about, as it stands before.
type Standing struct {
	Agent     AgentID // empty if the uid or the identity is not known
	Transport Transport
	Gateway   GatewayID
	BootID    uint64
	Epoch     Epoch
	Open      bool
}

// Takeover says why a claim may take a session that is still open.
type Takeover int

// The takeovers.
const (
	TakeoverNone Takeover = iota
	// TakeoverRestart: the older session is silent or gone.
	TakeoverRestart
	// TakeoverClone: the older session is alive: two agents share an identity.
	TakeoverClone
)

// Limits on takeovers by clones: this many within the window quarantine the identity.
const (
	CloneTakeovers      = 3
	CloneTakeoverWindow = 10 * time.Minute
)

// ClaimOutcome is what became of a claim.
type ClaimOutcome int

// The outcomes.
const (
	ClaimClaimed ClaimOutcome = iota + 1
	ClaimHeld
	ClaimRefused
)

// Reasons of a refused claim.
const (
	RefusedNotRecorded       = "CERTIFICATE_NOT_RECORDED"
	RefusedRevoked           = "CERTIFICATE_REVOKED"
	RefusedKeyRetired        = "SIGNING_KEY_RETIRED"
	RefusedQuarantined       = "QUARANTINED"
	RefusedForeignUID        = "UID_FOREIGN"
	RefusedChildren          = "CHILDREN_NOT_ALLOWED"
	RefusedChildrenExhausted = "CHILDREN_EXHAUSTED"
)

// ClaimResult answers a claim.
type ClaimResult struct {
	Outcome ClaimOutcome
	Reason  string // of a refusal
	Agent   AgentID
	Epoch   Epoch
	// LastSequence is the sequence of the agent's last message, as far as it is known; StateKnown says that its state is,
	// up to there.
	LastSequence Sequence
	StateKnown   bool
	// Shared says that the agent polls and goes on in the session it has, under the epoch of that.
	Shared bool
	// Holder of a held session.
	HolderGateway GatewayID
	HolderEpoch   Epoch
	Method        EnrolmentMethod
	// AfterOffer says that the certificate was offered to the agent and is shown for the first time.
	AfterOffer bool
}

// Attention is a standing remark that a person should look at an agent.
type Attention struct {
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// Reasons for attention.
const (
	AttentionConfigFailed   = "CONFIG_FAILED"
	AttentionNoLastGood     = "NO_LAST_GOOD_CONFIG"
	AttentionRestoreFailed  = "RESTORE_FAILED"
	AttentionRolledBack     = "ROLLED_BACK"
	AttentionNotCapable     = "NOT_CAPABLE"
	AttentionNoAnswer       = "NO_ANSWER"
	AttentionQuarantined    = "QUARANTINED"
	AttentionBodyUnreadable = "BODY_UNAVAILABLE"
	AttentionNotRendered    = "NOT_RENDERED"
)

// WithAttention returns list with exactly one remark of the reason: a former one keeps its time if its words are the same.
func WithAttention(list []Attention, a Attention) []Attention {
	if i := slices.IndexFunc(list, func(b Attention) bool { return b.Reason == a.Reason }); i >= 0 {
		if list[i].Message == a.Message {
			return list
		}
		list = slices.Clone(list)
		list[i] = a
		return list
	}
	return append(slices.Clip(list), a)
}

// WithoutAttention returns list less the remarks of the reasons.
func WithoutAttention(list []Attention, reasons ...string) []Attention {
	return slices.DeleteFunc(slices.Clone(list), func(a Attention) bool { return slices.Contains(reasons, a.Reason) })
}

// Certificate is a leaf that was issued and recorded. Only recorded serials are ever admitted.
type Certificate struct {
	Tenant      TenantID
	Serial      Serial
	Fingerprint Fingerprint
	Agent       AgentID
	Key         KeyID // the signing key that issued it
	NotBefore   time.Time
	NotAfter    time.Time
	DER         []byte   // the leaf
	ChainPEM    []byte   // leaf and intermediates, as handed out
	PublicKey   [32]byte // SHA-256 of its SubjectPublicKeyInfo
	CreatedAt   time.Time
	RevokedAt   time.Time
	Reason      RevocationReason // of a revoked one
	KeyRetired  bool             // its signing key is retired; read-only, derived
}

// AgentFilter selects agents; every field that is set must hold.
type AgentFilter struct {
	Group    GroupID
	NoGroup  bool // in none
	Presence Presence
	Gateway  GatewayID // that holds the session, or held the last one

	// Labels are what agents say of themselves, Tags what is known of them.
	Labels, Tags map[string]string
	// NamePrefix is of host name or service name. Each of Words is the prefix of one of these, or of the id if it has at
	// least MinIDPrefix characters of one.
	NamePrefix string
	Words      []string
	HostPrefix string
	Service    string
	Version    string // of the service

	// Healthy and Unhealthy are what the agent said of itself; one that never said is neither.
	Healthy, Unhealthy bool
	// Attention: with standing remarks; AttentionReason: with one of this reason.
	Attention       bool
	AttentionReason string
	Capabilities    Capabilities // all of these bits

	// Config is what agents shall end up with, ConfigVersion narrows to one of its versions, if not 0; DeliveryState is how
	// far that is.
	Config        ConfigID
	ConfigVersion int
	DeliveryState DeliveryState
	// Drift is whether they run it.
	Drift DriftState

	Method                        EnrolmentMethod
	EnrolledAfter, EnrolledBefore time.Time
	// ExpiresBefore is of the certificate that was last presented.
	ExpiresBefore time.Time
}

// MinIDPrefix is how much of an id tells anything: with less, a prefix of a UUIDv7 tells the decade.
const MinIDPrefix = 6

// IDRange is the first and the last id that begin with the prefix, if any can.
func IDRange(prefix string) (first, last AgentID, ok bool) {
	const low, high = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
	if len(prefix) < MinIDPrefix || len(prefix) > len(low) {
		return "", "", false
	}
	for i, c := range []byte(prefix) {
		dash := low[i] == '-'
		if dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return "", "", false
		}
	}
	return AgentID(prefix + low[len(prefix):]), AgentID(prefix + high[len(prefix):]), true
}

// Page is a place in a list and how much to return from there (keyset pagination).
type Page struct {
	// Size is the most rows to return; stores take 1 to 1000.
	Size int
	// After is the key of the last row already seen, as the list before returned it; empty for the beginning.
	After string
}

// ByTenant parts a list into lists of one tenant each, in the order in which the tenants first come.
func ByTenant[T any](list []T, tenant func(T) TenantID) (parted [][]T) {
	of := map[TenantID]int{}
	for _, item := range list {
		i, known := of[tenant(item)]
		if !known {
			i = len(parted)
			of[tenant(item)], parted = i, append(parted, nil)
		}
		parted[i] = append(parted[i], item)
	}
	return parted
}
