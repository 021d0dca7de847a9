// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

import "time"

// Upkeep is what is known of the certificate that an agent showed last, when it is decided what is done so that the agent
// has another before it ends.
type Upkeep struct {
	Tenant TenantID
	Agent  AgentID
	// Version grows with each write.
	Version int64

	Method EnrolmentMethod
	// TakesSettings is the agent's capability bit AcceptsOpAMPConnectionSettings.
	TakesSettings bool
	Quarantined   bool
	// Session is as it stands; Live says that it is open at a gateway that has its lease.
	Epoch     Epoch
	Transport Transport
	Live      bool

	// Serial is that of the certificate the agent showed last; MadeAt, NotAfter and RevokedAt are about that one.
	Serial    Serial
	MadeAt    time.Time
	NotAfter  time.Time
	RevokedAt time.Time
	// RotatedAt is when another key took the place of the one that signed it; zero: none has.
	RotatedAt time.Time
	// Newer says that the agent was given a later one that still stands and that it has not shown yet.
	Newer bool

	// Offers is how often another was offered in its place. The last offer: its number, when and in which session it was
	// made, whether it has not been handed to the gateway yet, and what the agent or its gateway said against it.
	Offers     int
	Generation Generation
	OfferedAt  time.Time
	OfferEpoch Epoch
	Pending    bool
	Failure    string
	// Told is how many times somebody was told that the certificate is about to end.
	Told      int
	Attention []Attention
}

// UpkeepStep is what is done about an agent's certificate.
type UpkeepStep struct {
	// LookAt is when to look again; zero: when the agent shows another certificate.
	LookAt time.Time
	// Offer asks the agent's gateway to offer it another certificate.
	Offer bool
	Told  int
	// Remark stands on the agent from now on, in place of any other about its certificate; nil: none does.
	Remark *Attention
	Events []Event
}

// Reasons for attention that are about certificates.
const (
	// AttentionCertificateExpiring: whoever has the agent's files is to renew it.
	AttentionCertificateExpiring = "CERTIFICATE_EXPIRING"
	// AttentionCertificate: it is about to end, and nothing that is done by itself has helped.
	AttentionCertificate = "CERTIFICATE_NEEDS_ATTENTION"
)

// Reasons for which an agent is not offered a certificate again, besides RefusedQuarantined, RefusedRevoked and
// RefusedExpired.
const (
	// RefusedNotShown: it has never shown a certificate of its own.
	RefusedNotShown = "CERTIFICATE_NOT_SHOWN"
	// RefusedKeepsKey: it made its key itself, or has it in files: whoever has those renews them.
	RefusedKeepsKey = "AGENT_KEEPS_ITS_KEY"
	// RefusedNoSettings: it does not take connection settings.
	RefusedNoSettings = "AGENT_TAKES_NO_SETTINGS"
	// RefusedNotOffered: nothing was offered to it in vain.
	RefusedNotOffered = "CERTIFICATE_NOT_OFFERED"
)

// WithUpkeep returns list with the remark in the place of all others about certificates.
func WithUpkeep(list []Attention, remark *Attention) []Attention {
	switch {
	case remark == nil:
		return WithoutAttention(list, AttentionCertificate, AttentionCertificateExpiring)
	case remark.Reason == AttentionCertificate:
		list = WithoutAttention(list, AttentionCertificateExpiring)
	default:
		list = WithoutAttention(list, AttentionCertificate)
	}
	return WithAttention(list, *remark)
}

// UpkeepOutcome is a word on the last offer: of the gateway that made it, or of the agent that it was made to.
type UpkeepOutcome struct {
	Generation Generation // zero if the agent says it, which knows the hash alone
	Hash       []byte     // of the offered connection settings
	Failure    string     // empty: it was handed over
}
