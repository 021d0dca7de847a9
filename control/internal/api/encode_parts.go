// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/hex"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/types/known/structpb"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

var configStates = word[fleet.ConfigState, amporav1.ConfigState]{
	{fleet.ConfigApplying, amporav1.ConfigState_CONFIG_STATE_APPLYING},
	{fleet.ConfigApplied, amporav1.ConfigState_CONFIG_STATE_APPLIED},
	{fleet.ConfigFailed, amporav1.ConfigState_CONFIG_STATE_FAILED},
}

// valueOf reads what a part says. An absent part reads as the zero value: the agent never said.
func valueOf[T any](p fleet.Part) (value T, err error) {
	if len(p.Value) == 0 {
		return value, nil
	}
	if err := json.Unmarshal(p.Value, &value); err != nil {
		return value, fmt.Errorf("read the stored %s of an agent: %w", p.Kind, err)
	}
	return value, nil
}

// partEncoders write one part each into the agent.
var partEncoders = map[fleet.PartKind]func(*amporav1.Agent, fleet.Part) error{
	fleet.PartDescription:        addDescription,
	fleet.PartCapabilities:       addCapabilities,
	fleet.PartHealth:             addHealth,
	fleet.PartEffectiveConfig:    addEffectiveConfig,
	fleet.PartRemoteConfigStatus: addRemoteConfigStatus,
	fleet.PartPackageStatuses:    addPackageStatuses,
	fleet.PartComponents:         addComponents,
	fleet.PartCustomCapabilities: addCustomCapabilities,
}

// addParts writes what an agent says in detail. Parts that the API does not show are passed over.
func addParts(agent *amporav1.Agent, parts map[fleet.PartKind]fleet.Part) error {
	for kind, part := range parts {
		add, shown := partEncoders[kind]
		if !shown {
			continue
		}
		if err := add(agent, part); err != nil {
			return err
		}
	}
	return nil
}

func addDescription(agent *amporav1.Agent, p fleet.Part) error {
	said, err := valueOf[fleet.Description](p)
	if err != nil {
		return err
	}
	agent.Description = &amporav1.Description{}
	if agent.Description.Identifying, err = attributes(said.Identifying); err != nil {
		return err
	}
	agent.Description.NonIdentifying, err = attributes(said.NonIdentifying)
	return err
}

// attributes keeps the type of each value. The wire has one type of number, a double: an integer past 2^53 is rounded.
func attributes(list []fleet.Attribute) ([]*amporav1.Attribute, error) {
	encoded := make([]*amporav1.Attribute, len(list))
	for i, a := range list {
		value := structpb.NewNullValue()
		if len(a.Value) > 0 {
			if err := value.UnmarshalJSON(a.Value); err != nil {
				return nil, fmt.Errorf("read the stored attribute %q of an agent: %w", a.Key, err)
			}
		}
		encoded[i] = &amporav1.Attribute{Key: a.Key, Value: value}
	}
	return encoded, nil
}

func addCapabilities(agent *amporav1.Agent, p fleet.Part) error {
	said, err := valueOf[fleet.CapabilitySet](p)
	agent.Capabilities = said.Names
	return err
}

func addHealth(agent *amporav1.Agent, p fleet.Part) error {
	said, err := valueOf[fleet.Health](p)
	if err == nil {
		agent.Health = health(said)
	}
	return err
}

func health(h fleet.Health) *amporav1.Health {
	encoded := &amporav1.Health{
		Healthy: h.Healthy, Status: h.Status, LastError: h.LastError,
		StartTime: moment(h.StartTime), StatusTime: moment(h.StatusTime),
	}
	if len(h.Components) > 0 {
		encoded.Components = make(map[string]*amporav1.Health, len(h.Components))
	}
	for name, component := range h.Components {
		encoded.Components[name] = health(component)
	}
	return encoded
}

func addEffectiveConfig(agent *amporav1.Agent, p fleet.Part) error {
	said, err := valueOf[fleet.EffectiveConfig](p)
	agent.EffectiveConfig = &amporav1.EffectiveConfig{Files: each(said.Files, configFile), ReportedAt: moment(p.At)}
	return err
}

func configFile(f fleet.ConfigFile) *amporav1.ConfigFile {
	return &amporav1.ConfigFile{Name: f.Name, ContentType: f.ContentType, ContentHash: hashText(f.Hash), Size: f.Size}
}

func addRemoteConfigStatus(agent *amporav1.Agent, p fleet.Part) error {
	said, err := valueOf[fleet.RemoteConfigStatus](p)
	agent.RemoteConfigStatus = &amporav1.RemoteConfigStatus{
		LastOfferHash: hex.EncodeToString(said.LastOffer),
		State:         configStates.encode(said.State),
		ErrorMessage:  said.Error,
		ReportedAt:    moment(p.At),
	}
	return err
}

func addPackageStatuses(agent *amporav1.Agent, p fleet.Part) error {
	said, err := valueOf[[]fleet.PackageStatus](p)
	agent.Packages = each(said, func(s fleet.PackageStatus) *amporav1.PackageStatus {
		return &amporav1.PackageStatus{
			Name: s.Name, AgentHasVersion: s.HasVersion, ServerOfferedVersion: s.OfferedVersion, Status: s.Status, ErrorMessage: s.Error,
		}
	})
	return err
}

func addComponents(agent *amporav1.Agent, p fleet.Part) error {
	said, err := valueOf[fleet.Components](p)
	agent.AvailableComponents = &amporav1.AvailableComponents{
		Hash: hex.EncodeToString(said.Hash),
		Components: each(said.List, func(c fleet.Component) *amporav1.Component {
			return &amporav1.Component{Kind: c.Kind, Name: c.Name, Module: c.Module}
		}),
	}
	return err
}

func addCustomCapabilities(agent *amporav1.Agent, p fleet.Part) error {
	said, err := valueOf[[]string](p)
	agent.CustomCapabilities = said
	return err
}
