// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package configs

import (
	"context"
	"errors"
	"regexp"

	"github.com/google/uuid"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
	"gitlab.com/ampora/ampora/shared/fault"
)

// Reasons for which bytes are not imported.
const (
	// ReasonUnnamed: neither the bytes nor the caller say which configuration they are of.
	ReasonUnnamed = "CONFIG_UNNAMED"
	// ReasonNamedOtherwise: both say it, and not the same.
	ReasonNamedOtherwise = "CONFIG_NAMED_OTHERWISE"
	// ReasonBadName: what the bytes say is no name of a configuration.
	ReasonBadName = "CONFIG_NAME_INVALID"
	// ReasonOtherKind: the configuration of that name is of another kind than the caller says.
	ReasonOtherKind = "CONFIG_OTHER_KIND"
)

// Import is bytes that may say themselves which configuration they are of.
type Import struct {
	Draft
	Name string           // empty: as the bytes say
	Kind fleet.ConfigKind // of a new configuration; empty: collector
}

// Imported says what became of them.
type Imported struct {
	Config  fleet.Config
	Version fleet.ConfigVersion
	// Unchanged: the newest version had these bytes, and nothing was stored.
	Unchanged bool
}

// Import stores bytes as a draft of the configuration they are of, which is created if it is new.
func (c *Configs) Import(ctx context.Context, by fleet.By, i Import) (Imported, error) {
	name, err := i.name()
	if err != nil {
		return Imported{}, err
	}
	config, err := c.store.Config(ctx, by.Tenant, name)
	if errors.Is(err, store.ErrNotFound) {
		kind := i.Kind
		if kind == "" {
			kind = fleet.KindCollector
		}
		created, v, err := c.Create(ctx, by, fleet.Config{Name: name, Kind: kind}, &i.Draft)
		if !errors.Is(err, store.ErrExists) { // else somebody was faster
			return Imported{Config: created, Version: v}, err
		}
		config, err = c.store.Config(ctx, by.Tenant, name)
		if err != nil {
			return Imported{}, err
		}
	} else if err != nil {
		return Imported{}, err
	}
	return c.importInto(ctx, by, config, i)
}

func (c *Configs) importInto(ctx context.Context, by fleet.By, config fleet.Config, i Import) (Imported, error) {
	if i.Kind != "" && i.Kind != config.Kind {
		return Imported{}, fault.New(fault.FailedPrecondition, ReasonOtherKind, "the configuration %s is of kind %s", config.Name, config.Kind)
	}
	if config.Latest > 0 {
		newest, err := c.store.ConfigVersion(ctx, by.Tenant, config.ID, config.Latest)
		if err != nil {
			return Imported{}, err
		}
		if newest.Hash == fleet.HashOf(i.Body) && newest.State != fleet.VersionArchived {
			return Imported{Config: config, Version: newest, Unchanged: true}, nil
		}
	}
	v, err := c.add(ctx, by, config, i.Draft)
	if err != nil {
		return Imported{}, err
	}
	config.Latest = v.Version
	return Imported{Config: config, Version: v}, nil
}

// configName is what the API takes as the name of a configuration.
var configName = regexp.MustCompile(`^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$`)

func (i Import) name() (string, error) {
	said := fleet.NameIn(i.Body)
	switch {
	case said == "" && i.Name == "":
		return "", fault.New(fault.Invalid, ReasonUnnamed, `say the name, or let the first line say it: "# ampora.name: NAME"`)
	case said != "" && i.Name != "" && said != i.Name:
		return "", fault.New(fault.Invalid, ReasonNamedOtherwise, "the first line says another name than %s", i.Name)
	case i.Name != "":
		said = i.Name
	}
	// A name that reads as an id could pass for that of another configuration.
	if !configName.MatchString(said) || uuid.Validate(said) == nil {
		return "", fault.New(fault.Invalid, ReasonBadName,
			"a configuration's name is up to 63 lower-case letters, digits, dots, dashes and underscores, begins and ends with a letter or a digit, and is no id").
			With("line", "1")
	}
	return said, nil
}
