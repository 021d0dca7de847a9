// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
	"gitlab.com/ampora/ampora/shared/identity"
)

var presences = word[fleet.Presence, amporav1.Presence]{
	{fleet.PresenceOnline, amporav1.Presence_PRESENCE_ONLINE},
	{fleet.PresenceOffline, amporav1.Presence_PRESENCE_OFFLINE},
	{fleet.PresenceUnknown, amporav1.Presence_PRESENCE_UNKNOWN},
}

var transports = word[fleet.Transport, amporav1.Transport]{
	{fleet.TransportWebSocket, amporav1.Transport_TRANSPORT_WEBSOCKET},
	{fleet.TransportHTTP, amporav1.Transport_TRANSPORT_HTTP},
}

var deliveryStates = word[fleet.DeliveryState, amporav1.DeliveryState]{
	{fleet.DeliveryNone, amporav1.DeliveryState_DELIVERY_STATE_NONE},
	{fleet.DeliveryPending, amporav1.DeliveryState_DELIVERY_STATE_PENDING},
	{fleet.DeliverySent, amporav1.DeliveryState_DELIVERY_STATE_SENT},
	{fleet.DeliveryApplying, amporav1.DeliveryState_DELIVERY_STATE_APPLYING},
	{fleet.DeliveryApplied, amporav1.DeliveryState_DELIVERY_STATE_APPLIED},
	{fleet.DeliveryFailed, amporav1.DeliveryState_DELIVERY_STATE_FAILED},
	{fleet.DeliveryRolledBack, amporav1.DeliveryState_DELIVERY_STATE_ROLLED_BACK},
	{fleet.DeliverySkipped, amporav1.DeliveryState_DELIVERY_STATE_SKIPPED},
}

var tagOrigins = word[fleet.TagOrigin, amporav1.TagOrigin]{
	{fleet.TagOfOperator, amporav1.TagOrigin_TAG_ORIGIN_OPERATOR},
	{fleet.TagOfEnrolment, amporav1.TagOrigin_TAG_ORIGIN_ENROLMENT},
}

// agentAt encodes what an agent's row knows, its presence judged at now.
func agentAt(now time.Time) func(fleet.Agent) *amporav1.Agent {
	return func(a fleet.Agent) *amporav1.Agent {
		encoded := &amporav1.Agent{
			Id:             string(a.ID),
			DisplayName:    a.DisplayName(),
			ServiceName:    a.ServiceName,
			ServiceVersion: a.ServiceVersion,
			HostName:       a.HostName,
			EnrolledAt:     moment(a.EnrolledAt),
			ParentId:       string(a.Parent),
			MaxChildren:    count(a.MaxChildren),
			GroupId:        string(a.Group),
			GroupName:      a.GroupName,
			Presence:       presences.encode(a.Session.Presence(now)),
			Session:        session(a.Session),
			ConfigDelivery: delivery(a.Delivery),
			Attention:      each(a.Attention, attention),
			Tags:           tags(a.Tags),

			EnrolmentMethod: methods.encode(a.Method),
		}
		if !a.InstanceUID.IsZero() {
			encoded.InstanceUid = a.InstanceUID.String()
		}
		if a.Healthy != nil {
			encoded.Health = &amporav1.Health{Healthy: *a.Healthy}
		}
		return encoded
	}
}

// session is nil for an agent that never connected.
func session(s fleet.Session) *amporav1.Session {
	if s.Epoch == 0 {
		return nil
	}
	return &amporav1.Session{
		GatewayId:   string(s.Gateway),
		Epoch:       uint64(s.Epoch), //nolint:gosec // epochs count from 1
		Transport:   transports.encode(s.Transport),
		ConnectedAt: moment(s.ConnectedAt),
		LastSeenAt:  moment(s.LastSeenAt),
		EndedAt:     moment(s.EndedAt),
		EndReason:   s.EndReason,
		Peer:        s.Peer,
	}
}

func tags(of map[string]fleet.Tag) map[string]*amporav1.Tag {
	encoded := make(map[string]*amporav1.Tag, len(of))
	for key, tag := range of {
		encoded[key] = &amporav1.Tag{Value: tag.Value, Origin: tagOrigins.encode(tag.Origin)}
	}
	return encoded
}

func attention(a fleet.Attention) *amporav1.Attention {
	return &amporav1.Attention{Reason: a.Reason, Message: a.Message, Since: moment(a.Since)}
}

// delivery encodes the summary of an agent; one that nothing was ever decided for has none assigned.
func delivery(d fleet.Delivery) *amporav1.ConfigDelivery {
	if d.State == "" {
		d.State = fleet.DeliveryNone
	}
	return &amporav1.ConfigDelivery{
		State:              deliveryStates.encode(d.State),
		ConfigId:           string(d.Desired.Config),
		ConfigName:         d.Desired.ConfigName,
		Version:            count(d.Desired.Version),
		OfferHash:          hashText(d.Desired.Offer),
		AssignedThrough:    d.Through,
		Message:            d.Message,
		Since:              moment(d.Since),
		RestoredConfigId:   string(d.Restored.Config),
		RestoredConfigName: d.Restored.ConfigName,
		RestoredVersion:    count(d.Restored.Version),
	}
}

func credentialOf(c fleet.Certificate, trustDomain string) *amporav1.Credential {
	named := identity.Agent{TrustDomain: trustDomain, Tenant: identity.TenantID(c.Tenant), ID: identity.AgentID(c.Agent)}
	return &amporav1.Credential{
		Serial:      string(c.Serial),
		Fingerprint: string(c.Fingerprint),
		NotBefore:   moment(c.NotBefore),
		NotAfter:    moment(c.NotAfter),
		SpiffeId:    named.String(),
	}
}
