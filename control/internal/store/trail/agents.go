// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package trail

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// Enrolled is what a redeemed bootstrap token leaves behind: an identity, in a group or in none. If the token was drawn
// from a pool, that is named.
func Enrolled(r store.Redemption, token fleet.BootstrapToken, group fleet.GroupID) (Entry, fleet.Event) {
	entry := ofAgent("agent.enrol", r.Agent, Fields{
		"token": r.Token, "method": r.Method, "serial": r.Certificate.Serial, "fingerprint": r.Certificate.Fingerprint, "group": group,
	})
	event := fleet.Event{
		Tenant: r.By.Tenant, At: r.By.At, Kind: fleet.EventAgentEnrolled, Agent: r.Agent,
		Message: "enrolled (" + string(r.Method) + ")", Attributes: map[string]string{"method": string(r.Method), "group": string(group)},
	}
	if token.Pool != "" {
		entry.After["pool"], event.Attributes["pool"] = token.PoolName, token.PoolName
	}
	return entry, event
}

// Returned is what a token leaves behind by which an identity came back.
func Returned(r store.Redemption, token fleet.BootstrapToken) (Entry, fleet.Event) {
	entry := ofAgent("agent.return", r.Agent, Fields{
		"token": r.Token, "issued_by": token.CreatedBy, "replace": token.Replaces, "method": r.Method,
		"serial": r.Certificate.Serial, "fingerprint": r.Certificate.Fingerprint,
	})
	return entry, fleet.Event{
		Tenant: r.By.Tenant, At: r.By.At, Kind: fleet.EventAgentReturned, Agent: r.Agent,
		Message: "came back (" + string(r.Method) + ")", Attributes: map[string]string{"method": string(r.Method), "serial": string(r.Certificate.Serial)},
	}
}

// Renewed is what a renewed certificate leaves behind.
func Renewed(by fleet.By, r fleet.CertificateRenewal, c fleet.Certificate) (Entry, fleet.Event) {
	entry := ofAgent("agent.renew_certificate", r.Agent, Fields{"serial": c.Serial, "fingerprint": c.Fingerprint, "not_after": c.NotAfter.UTC()})
	entry.Before = Fields{"serial": r.Serial}
	return entry, fleet.Event{
		Tenant: by.Tenant, At: by.At, Kind: fleet.EventCertificateRenewed, Agent: r.Agent,
		Message: "certificate renewed, until " + c.NotAfter.UTC().Format(time.DateOnly), Attributes: map[string]string{"serial": string(c.Serial)},
	}
}

// CertificateAttention is the entry of an agent whose certificate somebody must look after, as an event says it.
func CertificateAttention(e fleet.Event) Entry {
	return ofAgent("agent.certificate_attention", e.Agent, Fields{"message": e.Message, "serial": e.Attributes["serial"]})
}

// OfferedAgain is the entry of an agent to which certificates are offered anew, so many offers being forgotten.
func OfferedAgain(id fleet.AgentID, forgotten int) Entry {
	entry := ofAgent("agent.offer_certificate", id, nil)
	entry.Before = Fields{"offers": forgotten}
	return entry
}

// CertificatesRevoked is what certificates leave behind that are not good any more: one entry that names them all, and
// an event for each agent.
func CertificatesRevoked(by fleet.By, r fleet.Revocation, revoked []fleet.Certificate) (Entry, []fleet.Event) {
	of := map[fleet.AgentID][]string{}
	for _, c := range revoked {
		of[c.Agent] = append(of[c.Agent], string(c.Serial))
	}
	events := make([]fleet.Event, 0, len(of))
	for _, agent := range slices.Sorted(maps.Keys(of)) {
		slices.Sort(of[agent])
		events = append(events, fleet.Event{
			Tenant: by.Tenant, At: by.At, Kind: fleet.EventCertificateRevoked, Agent: agent, Message: "certificate revoked",
			Attributes: map[string]string{"serials": strings.Join(of[agent], " "), "reason": strconv.Itoa(int(r.Reason))},
		})
	}
	entry := Entry{Action: "certificate.revoke", EntityKind: "certificate", After: Fields{"reason": int(r.Reason), "serials": of}}
	if r.Key != "" {
		entry.After["signing_key"] = r.Key
	}
	if len(revoked) == 1 {
		entry.EntityID = string(revoked[0].Serial)
	}
	return entry, events
}

// ConfigRetried is the entry of an agent whose failed attempts were cleared, so many of them.
func ConfigRetried(id fleet.AgentID, cleared int) Entry {
	return ofAgent("agent.retry_config", id, Fields{"cleared": cleared})
}

// ChildrenAllowed is the entry of an agent that may speak for n others, which were as many as before until then.
func ChildrenAllowed(id fleet.AgentID, before, n int) Entry {
	entry := ofAgent("agent.allow_children", id, Fields{"max_children": n})
	entry.Before = Fields{"max_children": before}
	return entry
}

// QuarantineReleased is the entry of an agent that is let in again, quarantined since then.
func QuarantineReleased(id fleet.AgentID, since time.Time) Entry {
	entry := ofAgent("agent.release_quarantine", id, nil)
	entry.Before = Fields{"quarantined_at": since.UTC()}
	return entry
}

func ofAgent(action string, id fleet.AgentID, after Fields) Entry {
	return Entry{Action: action, EntityKind: "agent", EntityID: string(id), After: after}
}
