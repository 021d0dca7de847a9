// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/open-telemetry/opamp-go/protobufs"
	"google.golang.org/protobuf/proto"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	relayv1 "gitlab.com/ampora/ampora/proto/gen/relay/v1"
)

// reportDecoder turns one AgentToServer into the parts of a report. A sub-message that is absent says "unchanged"
// (OpAMP, "Status Compression") and becomes no part; one that is present replaces the former whole.
type reportDecoder struct {
	in      *Inbox
	report  *fleet.Report
	message *protobufs.AgentToServer
	cut     *relayv1.Report
}

func (c *reportDecoder) decode(ctx context.Context) error {
	c.capabilities()
	c.description()
	c.health()
	c.remoteConfigStatus()
	c.packages()
	c.connectionStatus()
	c.custom()
	c.extra()
	if err := c.effectiveConfig(); err != nil {
		return err
	}
	return c.components(ctx)
}

// part adds a part: value in our vocabulary, raw as received.
func (c *reportDecoder) part(kind fleet.PartKind, value any, raw proto.Message, digest string, news *fleet.Event) {
	text, err := json.Marshal(value)
	if err != nil {
		// The vocabulary holds nothing that JSON cannot say.
		panic(fmt.Sprintf("inbox: encoding a %s part: %v", kind, err))
	}
	bytes := []byte{}
	if raw != nil {
		if b, err := proto.Marshal(raw); err == nil {
			bytes = b
		}
	}
	if digest == "" {
		digest = digestOf(text)
	}
	c.report.Parts = append(c.report.Parts, fleet.Part{
		Kind: kind, Stamp: c.report.Stamp, At: c.report.At, Value: text, Raw: bytes, Digest: digest, News: news,
	})
}

func (c *reportDecoder) news(kind fleet.EventKind, message string, attributes map[string]string) *fleet.Event {
	return &fleet.Event{
		Tenant: c.report.Tenant, At: c.report.At, Kind: kind, Agent: c.report.Agent,
		Message: message, Attributes: attributes,
	}
}

func (c *reportDecoder) capabilities() {
	bits := c.message.GetCapabilities()
	if bits == 0 {
		// ReportsStatus must be set by every agent, so no bits means not said.
		return
	}
	set := fleet.Capabilities(bits)
	c.part(fleet.PartCapabilities, fleet.CapabilitySet{Bits: set, Names: set.Names()}, nil, "", nil)
	accepts := set.Has(fleet.Capabilities(protobufs.AgentCapabilities_AgentCapabilities_AcceptsRemoteConfig))
	c.report.Summary.Capabilities, c.report.Summary.AcceptsConfig = &set, &accepts
}

func (c *reportDecoder) description() {
	d := c.message.GetAgentDescription()
	if d == nil {
		return
	}
	value := fleet.Description{
		Identifying: attributes(d.GetIdentifyingAttributes()), NonIdentifying: attributes(d.GetNonIdentifyingAttributes()),
	}
	labels := Labels(value)
	c.report.Labels = labels
	name, version, host := labels["service.name"], labels["service.version"], labels["host.name"]
	c.report.Summary.ServiceName, c.report.Summary.ServiceVersion, c.report.Summary.HostName = &name, &version, &host
	c.report.Wake = true
	c.part(fleet.PartDescription, value, d, "", c.news(fleet.EventDescriptionChanged, "described itself", map[string]string{
		"service.name": name, "service.version": version, "host.name": host,
	}))
}

func (c *reportDecoder) health() {
	h := c.message.GetHealth()
	if h == nil {
		return
	}
	if c.cut.GetAfterOwnOffer() && proto.Size(h) == 0 {
		// A client object that is fresh because of an offer of ours has nothing to say yet: the former health stands.
		return
	}
	value := health(h, 0)
	c.report.Summary.Healthy = &value.Healthy
	word := "healthy"
	if !value.Healthy {
		word = "unhealthy"
		if value.LastError != "" {
			word += ": " + value.LastError
		}
	}
	c.part(fleet.PartHealth, value, h, strconv.FormatBool(value.Healthy), c.news(fleet.EventHealthChanged, word, map[string]string{
		"healthy": strconv.FormatBool(value.Healthy), "status": value.Status,
	}))
}

func (c *reportDecoder) remoteConfigStatus() {
	s := c.message.GetRemoteConfigStatus()
	if s == nil {
		return
	}
	value := fleet.RemoteConfigStatus{
		LastOffer: s.GetLastRemoteConfigHash(), State: configState(int32(s.GetStatus())), Error: words(s.GetErrorMessage()),
	}
	c.report.Wake = true
	message := "says its configuration is " + string(value.State)
	if value.State == fleet.ConfigUnset {
		message = "has no remote configuration"
	}
	if value.Error != "" {
		message += ": " + value.Error
	}
	c.part(fleet.PartRemoteConfigStatus, value, s, "", c.news(fleet.EventConfigStatusChanged, message, map[string]string{
		"state": string(value.State), "offer_hash": hex.EncodeToString(value.LastOffer),
	}))
}

func (c *reportDecoder) packages() {
	p := c.message.GetPackageStatuses()
	if p == nil {
		return
	}
	list := make([]fleet.PackageStatus, 0, len(p.GetPackages()))
	for name, s := range p.GetPackages() {
		list = append(list, fleet.PackageStatus{
			Name: clean(name), HasVersion: clean(s.GetAgentHasVersion()), OfferedVersion: clean(s.GetServerOfferedVersion()),
			Status: strings.TrimPrefix(s.GetStatus().String(), "PackageStatusEnum_"), Error: words(s.GetErrorMessage()),
		})
	}
	slices.SortFunc(list, func(a, b fleet.PackageStatus) int { return strings.Compare(a.Name, b.Name) })
	c.part(fleet.PartPackageStatuses, list, p, "", c.news(fleet.EventPackagesChanged, "package statuses changed", packageWords(list)))
}

// packageWords say of the first packages which version there is, and how it goes.
func packageWords(list []fleet.PackageStatus) map[string]string {
	const most = 16
	words := make(map[string]string, min(len(list), most))
	for _, p := range list[:min(len(list), most)] {
		words[p.Name] = strings.TrimSpace(p.HasVersion + " " + p.Status)
	}
	return words
}

func (c *reportDecoder) connectionStatus() {
	s := c.message.GetConnectionSettingsStatus()
	if s == nil {
		return
	}
	value := fleet.ConnectionStatus{
		LastOffer: s.GetLastConnectionSettingsHash(), State: configState(int32(s.GetStatus())), Error: words(s.GetErrorMessage()),
	}
	c.part(fleet.PartConnectionStatus, value, s, "", nil)
	if value.State == fleet.ConfigFailed && len(value.LastOffer) > 0 {
		failure := cmp.Or(value.Error, "it failed, and the agent does not say why")
		c.report.SettingsFailed = &fleet.UpkeepOutcome{Hash: value.LastOffer, Failure: failure}
	}
}

func (c *reportDecoder) custom() {
	if s := c.message.GetCustomCapabilities(); s != nil {
		list := make([]string, 0, len(s.GetCapabilities()))
		for _, name := range s.GetCapabilities() {
			list = append(list, clean(name))
		}
		c.part(fleet.PartCustomCapabilities, list, s, "", nil)
	}
	if m := c.message.GetCustomMessage(); m != nil {
		c.part(fleet.PartCustomMessage, map[string]any{
			"capability": clean(m.GetCapability()), "type": clean(m.GetType()), "size": len(m.GetData()),
		}, m, "", nil)
	}
}

// extra keeps the fields of AgentToServer that this program does not know.
func (c *reportDecoder) extra() {
	unknown := c.message.ProtoReflect().GetUnknown()
	if len(unknown) == 0 {
		return
	}
	c.part(fleet.PartExtra, map[string]int{"size": len(unknown)}, nil, digestOf(unknown), nil)
	c.report.Parts[len(c.report.Parts)-1].Raw = slices.Clone(unknown)
}

// effectiveConfig reads the config map, whose bodies travelled apart.
func (c *reportDecoder) effectiveConfig() error {
	e := c.message.GetEffectiveConfig()
	if e == nil {
		return nil
	}
	value := fleet.EffectiveConfig{Files: []fleet.ConfigFile{}}
	said := false
	for _, b := range c.cut.GetBodies() {
		if b.GetKind() != relayv1.Body_KIND_EFFECTIVE_CONFIG {
			continue
		}
		hash, err := fleet.ContentHashFrom(b.GetHash())
		if err != nil {
			return fmt.Errorf("effective config: %w", err)
		}
		entry := e.GetConfigMap().GetConfigMap()[b.GetName()]
		value.Files = append(value.Files, fleet.ConfigFile{
			Name: clean(b.GetName()), ContentType: clean(entry.GetContentType()), Role: clean(entry.GetRole()), Hash: hash, Size: b.GetSize(),
		})
		c.report.Bodies = append(c.report.Bodies, hash)
		said = said || b.GetSize() > 0
	}
	if !said {
		// A supervisor that has just started reports an entry of no bytes before its collector runs: not a change.
		return nil
	}
	slices.SortFunc(value.Files, func(a, b fleet.ConfigFile) int { return strings.Compare(a.Name, b.Name) })
	c.part(fleet.PartEffectiveConfig, value, e, "", c.news(fleet.EventEffectiveConfigChanged, "runs another configuration", map[string]string{
		"files": strconv.Itoa(len(value.Files)),
	}))
	return nil
}

// components reads what the agent was built with. Mostly it sends the hash alone; the list comes once per build.
func (c *reportDecoder) components(ctx context.Context) error {
	a := c.message.GetAvailableComponents()
	if a == nil {
		return nil
	}
	value := fleet.Components{Hash: a.GetHash()}
	full := a
	for _, b := range c.cut.GetBodies() {
		if b.GetKind() != relayv1.Body_KIND_AVAILABLE_COMPONENTS {
			continue
		}
		hash, err := fleet.ContentHashFrom(b.GetHash())
		if err != nil {
			return fmt.Errorf("available components: %w", err)
		}
		c.report.Bodies = append(c.report.Bodies, hash)
		body, err := c.in.d.Bodies.Get(ctx, c.report.Tenant, hash)
		if errors.Is(err, store.ErrNotFound) {
			return nil // The store finds the body missing too, and asks for full state.
		}
		if err != nil {
			return fmt.Errorf("available components: %w", err)
		}
		full = &protobufs.AvailableComponents{}
		if err := proto.Unmarshal(body, full); err != nil {
			return fmt.Errorf("available components: %w", err)
		}
	}
	value.List = components(full.GetComponents())
	if len(value.List) == 0 {
		return nil // A hash without its list says nothing that can be shown; the list on record stands.
	}
	c.part(fleet.PartComponents, value, a, "", c.news(fleet.EventComponentsChanged, "is built of other components", map[string]string{
		"components": strconv.Itoa(len(value.List)), "hash": hex.EncodeToString(value.Hash),
	}))
	return nil
}

func digestOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
