// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"encoding/json"
	"time"
)

// PartKind names one part of a report. Each is written on its own, under the stamp of the message that carried it.
type PartKind string

// The parts of an agent's report (OpAMP AgentToServer).
const (
	PartDescription        PartKind = "description"
	PartCapabilities       PartKind = "capabilities"
	PartHealth             PartKind = "health"
	PartEffectiveConfig    PartKind = "effective_config"
	PartRemoteConfigStatus PartKind = "remote_config_status"
	PartPackageStatuses    PartKind = "package_statuses"
	PartComponents         PartKind = "available_components"
	PartConnectionStatus   PartKind = "connection_settings_status"
	PartCustomCapabilities PartKind = "custom_capabilities"
	PartCustomMessage      PartKind = "custom_message" // the last one received
	// PartExtra holds the fields of the message that this program does not know, raw.
	PartExtra PartKind = "extra"
)

// Part is one part of an agent's report as last said.
type Part struct {
	Kind  PartKind
	Stamp Stamp
	At    time.Time
	// Value is the part in our vocabulary, as JSON: Description, Health, …
	Value json.RawMessage
	// Raw is the part's protobuf as received, less cut-out bodies: fields we do not know yet survive here.
	Raw []byte
	// Digest is what counts as a change worth telling: two values with equal digests are the same news.
	Digest string
	// News is written when the part is newer and its digest differs from the one on record. Nil: never told.
	News *Event
}

// Report is what one message of an agent says, ready to be recorded.
type Report struct {
	Tenant  TenantID
	Agent   AgentID
	Gateway GatewayID
	BootID  uint64
	Stamp   Stamp
	At      time.Time
	Parts   []Part
	// Summary holds the columns derived from the parts; a nil pointer leaves the column alone.
	Summary Summary
	// Labels replaces the searchable labels when the description is among the parts and newer. Nil: unchanged.
	Labels map[string]string
	// Bodies the parts refer to. If one is not stored the report is not recorded and full state is asked for.
	Bodies []ContentHash
	// InDoubt says that something the agent said before may be lost: its state is known again when it is whole.
	InDoubt bool
	// Whole says that it is the agent's full state.
	Whole bool
	// SettingsFailed says that the agent could not use connection settings that it was offered.
	SettingsFailed *UpkeepOutcome
	// Wake asks for the engine's attention: the report says something a grant may wait for.
	Wake bool
}

// SessionEnd says that an agent's connection is over.
type SessionEnd struct {
	Tenant       TenantID
	Agent        AgentID
	Gateway      GatewayID
	BootID       uint64
	Epoch        Epoch
	At           time.Time
	Reason       string
	LastSeenAt   time.Time
	LastSequence Sequence
	// InDoubt says that something the agent said may be lost.
	InDoubt bool
}

// Uplink is one message of a gateway, ready to be recorded: exactly one of the first three fields is set.
type Uplink struct {
	Report   *Report
	Ended    *SessionEnd
	Delivery *DeliveryReport
	// Trace is where it is recorded: the engine, if it is woken for the uplink, goes on there.
	Trace Traceparent
}

// Summary is what an agent's row repeats of its parts, for lists and filters.
type Summary struct {
	ServiceName    *string
	ServiceVersion *string
	HostName       *string
	Capabilities   *Capabilities
	// AcceptsConfig is the capability bit AcceptsRemoteConfig, read where OpAMP's constants are known.
	AcceptsConfig *bool
	Healthy       *bool
}

// CapabilitySet is the agent's capability bits and their names.
type CapabilitySet struct {
	Bits  Capabilities `json:"bits"`
	Names []string     `json:"names,omitempty"`
}

// Attribute is one key and value of a description. The value is a JSON value: string, number, boolean, array, object
// or, for bytes, {"$bytes": base64}.
type Attribute struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"`
}

// Description is what the agent says of itself.
type Description struct {
	Identifying    []Attribute `json:"identifying,omitempty"`
	NonIdentifying []Attribute `json:"non_identifying,omitempty"`
}

// Health is a tree of an agent and its components.
type Health struct {
	Healthy    bool              `json:"healthy"`
	Status     string            `json:"status,omitempty"`
	LastError  string            `json:"last_error,omitempty"`
	StartTime  time.Time         `json:"start_time,omitzero"`
	StatusTime time.Time         `json:"status_time,omitzero"`
	Components map[string]Health `json:"components,omitempty"`
}

// ConfigFile is one entry of a config map, its body by hash.
type ConfigFile struct {
	Name        string      `json:"name"`
	ContentType string      `json:"content_type,omitempty"`
	Role        string      `json:"role,omitempty"`
	Hash        ContentHash `json:"hash"`
	Size        int64       `json:"size"`
}

// EffectiveConfig is what the agent says it runs, sorted by name.
type EffectiveConfig struct {
	Files []ConfigFile `json:"files"`
}

// ConfigState is an agent's word on an offered configuration.
type ConfigState string

// The states (OpAMP RemoteConfigStatuses).
const (
	ConfigUnset    ConfigState = ""
	ConfigApplying ConfigState = "applying"
	ConfigApplied  ConfigState = "applied"
	ConfigFailed   ConfigState = "failed"
)

// RemoteConfigStatus is the agent's last word on what was offered to it.
type RemoteConfigStatus struct {
	// LastOffer is the hash as the agent gave it; any bytes, mostly an OfferHash of ours.
	LastOffer []byte      `json:"last_offer,omitempty"`
	State     ConfigState `json:"state,omitempty"`
	Error     string      `json:"error,omitempty"`
}

// PackageStatus is the state of one package on the agent.
type PackageStatus struct {
	Name           string `json:"name"`
	HasVersion     string `json:"has_version,omitempty"`
	OfferedVersion string `json:"offered_version,omitempty"`
	Status         string `json:"status,omitempty"`
	Error          string `json:"error,omitempty"`
}

// Components is what the agent was built with.
type Components struct {
	// Hash as the agent gave it.
	Hash []byte      `json:"hash,omitempty"`
	List []Component `json:"list,omitempty"`
}

// Component is one component type of an agent.
type Component struct {
	Kind   string `json:"kind"`
	Name   string `json:"name"`
	Module string `json:"module,omitempty"`
}

// ConnectionStatus is the agent's word on offered connection settings.
type ConnectionStatus struct {
	LastOffer []byte      `json:"last_offer,omitempty"`
	State     ConfigState `json:"state,omitempty"`
	Error     string      `json:"error,omitempty"`
}

// Event is something that happened, told once to history and live stream alike.
type Event struct {
	// Cursor is the place in the stream, in commit order; set by the store.
	Cursor     Cursor
	Tenant     TenantID
	At         time.Time
	Kind       EventKind
	Agent      AgentID
	Message    string
	Attributes map[string]string
}

// Cursor is an opaque place in the event stream of one store.
type Cursor string

// EventKind names what happened.
type EventKind string

// The kinds of event.
const (
	EventAgentEnrolled          EventKind = "agent.enrolled"
	EventAgentReturned          EventKind = "agent.returned"
	EventCertificateRenewed     EventKind = "agent.certificate_renewed"
	EventCertificateInUse       EventKind = "agent.certificate_in_use"
	EventCertificateExpiring    EventKind = "agent.certificate_expiring"
	EventCertificateAttention   EventKind = "agent.certificate_attention"
	EventCertificateRevoked     EventKind = "agent.certificate_revoked"
	EventAgentConnected         EventKind = "agent.connected"
	EventAgentDisconnected      EventKind = "agent.disconnected"
	EventAgentQuarantined       EventKind = "agent.quarantined"
	EventDescriptionChanged     EventKind = "agent.description_changed"
	EventHealthChanged          EventKind = "agent.health_changed"
	EventEffectiveConfigChanged EventKind = "agent.effective_config_changed"
	EventConfigStatusChanged    EventKind = "agent.config_status_changed"
	EventDriftChanged           EventKind = "agent.drift_changed"
	EventPackagesChanged        EventKind = "agent.packages_changed"
	EventComponentsChanged      EventKind = "agent.components_changed"
	EventHistoryBounded         EventKind = "agent.history_bounded"
	EventConfigGranted          EventKind = "agent.config_granted"
	EventConfigSettled          EventKind = "agent.config_settled"
	EventGroupChanged           EventKind = "agent.group_changed"
	EventTagsChanged            EventKind = "agent.tags_changed"
	EventRestartSent            EventKind = "agent.restart_sent"
	EventRestartRefused         EventKind = "agent.restart_refused"
	EventConfigPublished        EventKind = "config.published"
	EventAssigned               EventKind = "assignment.changed"
	EventRolloutCreated         EventKind = "rollout.created"
	EventRolloutStarted         EventKind = "rollout.started"
	EventRolloutWaveOpened      EventKind = "rollout.wave_opened"
	EventRolloutWaveEnded       EventKind = "rollout.wave_ended"
	EventRolloutPaused          EventKind = "rollout.paused"
	EventRolloutResumed         EventKind = "rollout.resumed"
	EventRolloutExtended        EventKind = "rollout.extended"
	EventRolloutWaiting         EventKind = "rollout.waiting"
	EventRolloutCompleted       EventKind = "rollout.completed"
	EventRolloutAborted         EventKind = "rollout.aborted"
	EventRolloutRolledBack      EventKind = "rollout.rolled_back"
)
