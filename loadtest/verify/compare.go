// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

// Compare says in words where what the API shows of an agent differs from what the agent
// itself knows: who it is, its description, capabilities, components, health, effective
// configuration by hash, remote config status, transport and presence. Nothing else of
// the two is looked at.
func Compare(agent, shown *amporav1.Agent) []string {
	d := &differences{}
	d.text("id", agent.GetId(), shown.GetId())
	d.text("instance uid", agent.GetInstanceUid(), shown.GetInstanceUid())
	d.text("identity", agent.GetCredential().GetSpiffeId(), shown.GetCredential().GetSpiffeId())
	d.text("serial number", agent.GetCredential().GetSerial(), shown.GetCredential().GetSerial())
	d.text("host name", agent.GetHostName(), shown.GetHostName())
	d.text("presence", short(agent.GetPresence()), short(shown.GetPresence()))
	d.text("transport", short(agent.GetSession().GetTransport()), short(shown.GetSession().GetTransport()))
	d.set("capabilities", agent.GetCapabilities(), shown.GetCapabilities())
	d.attributes("identifying", agent.GetDescription().GetIdentifying(), shown.GetDescription().GetIdentifying())
	d.attributes("non-identifying", agent.GetDescription().GetNonIdentifying(), shown.GetDescription().GetNonIdentifying())
	d.components(agent.GetAvailableComponents(), shown.GetAvailableComponents())
	d.health("health", agent.GetHealth(), shown.GetHealth())
	d.files(agent.GetEffectiveConfig(), shown.GetEffectiveConfig())
	d.configStatus(agent.GetRemoteConfigStatus(), shown.GetRemoteConfigStatus())
	return d.list
}

// differences are told as "what: the agent …, the API …".
type differences struct{ list []string }

func (d *differences) text(what, agent, shown string) {
	if agent != shown {
		d.list = append(d.list, fmt.Sprintf("%s: the agent has %q, the API shows %q", what, agent, shown))
	}
}

func (d *differences) set(what string, agent, shown []string) {
	d.text(what, sorted(agent), sorted(shown))
}

func sorted(list []string) string {
	list = slices.Clone(list)
	slices.Sort(list)
	return strings.Join(list, " ")
}

func (d *differences) attributes(what string, agent, shown []*amporav1.Attribute) {
	d.text("number of "+what+" attributes", fmt.Sprint(len(agent)), fmt.Sprint(len(shown)))
	values := map[string]*amporav1.Attribute{}
	for _, each := range shown {
		values[each.GetKey()] = each
	}
	for _, each := range agent {
		other := values[each.GetKey()]
		if !proto.Equal(each.GetValue(), other.GetValue()) {
			d.text("attribute "+each.GetKey(), each.GetValue().String(), other.GetValue().String())
		}
	}
}

func (d *differences) components(agent, shown *amporav1.AvailableComponents) {
	d.text("hash of components", agent.GetHash(), shown.GetHash())
	d.set("components", componentNames(agent), componentNames(shown))
}

func componentNames(all *amporav1.AvailableComponents) []string {
	names := make([]string, len(all.GetComponents()))
	for i, each := range all.GetComponents() {
		names[i] = each.GetKind() + "/" + each.GetName()
	}
	return names
}

func (d *differences) health(what string, agent, shown *amporav1.Health) {
	d.text(what, healthText(agent), healthText(shown))
	d.set("parts of "+what, slices.Collect(maps.Keys(agent.GetComponents())), slices.Collect(maps.Keys(shown.GetComponents())))
	for _, name := range slices.Sorted(maps.Keys(agent.GetComponents())) {
		if part := shown.GetComponents()[name]; part != nil {
			d.health(what+" of "+name, agent.GetComponents()[name], part)
		}
	}
}

func healthText(h *amporav1.Health) string {
	if h == nil {
		return "nothing"
	}
	word := "unhealthy"
	if h.GetHealthy() {
		word = "healthy"
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s %s since %s, started %s", word, h.GetStatus(), h.GetLastError(), timeText(h.GetStatusTime()), timeText(h.GetStartTime())))
}

func timeText(t *timestamppb.Timestamp) string {
	if t == nil {
		return "never"
	}
	return t.AsTime().Format("2006-01-02T15:04:05.999999999Z")
}

func (d *differences) files(agent, shown *amporav1.EffectiveConfig) {
	d.set("effective configuration", fileTexts(agent), fileTexts(shown))
}

func fileTexts(config *amporav1.EffectiveConfig) []string {
	texts := make([]string, len(config.GetFiles()))
	for i, file := range config.GetFiles() {
		texts[i] = fmt.Sprintf("%q of %s: %d bytes %s", file.GetName(), file.GetContentType(), file.GetSize(), file.GetContentHash())
	}
	return texts
}

func (d *differences) configStatus(agent, shown *amporav1.RemoteConfigStatus) {
	d.text("remote configuration", statusText(agent), statusText(shown))
}

func statusText(s *amporav1.RemoteConfigStatus) string {
	return strings.TrimSpace(fmt.Sprintf("%s %s %s", short(s.GetState()), s.GetLastOfferHash(), s.GetErrorMessage()))
}

// short is a value of an enumeration without its prefix.
func short(v fmt.Stringer) string {
	name := v.String()
	return strings.ToLower(name[strings.LastIndexByte(name, '_')+1:])
}
