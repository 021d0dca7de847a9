// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

// ComponentKind is what a component does. The words are those of [fleet.Component].
type ComponentKind string

// The kinds.
const (
	Receiver  ComponentKind = "receiver"
	Processor ComponentKind = "processor"
	Exporter  ComponentKind = "exporter"
	Connector ComponentKind = "connector"
	Extension ComponentKind = "extension"
)

// section is the key under which components of the kind are defined, and named in a pipeline.
func (k ComponentKind) section() string { return string(k) + "s" }

// Config is a configuration as the Collector reads it. It is never changed once it is made.
type Config struct {
	Receivers, Processors, Exporters, Connectors, Extensions Section
	Service                                                  Service
	// Rest are the keys at the root that the Collector does not know.
	Rest []Field

	root   *Node
	normal *Node // see normalise
	split  []splitKey
	shapes []misshapen
}

// Section is where the components of one kind are defined.
type Section struct {
	Kind ComponentKind
	// Components, sorted by their keys.
	Components []Component
	// Elsewhere says that the section is a reference, or has an odd shape: what it defines is not known.
	Elsewhere bool
}

// Component is a receiver, processor, exporter, connector or extension.
type Component struct {
	Kind ComponentKind
	ID   ID
	// Fault says why the Collector would refuse the id; empty for a good one.
	Fault string
	// Settings may be null: the Collector's own defaults.
	Settings     *Node
	Line, Column int

	key string // the id as it is written
}

// Service is what is switched on.
type Service struct {
	Extensions Members
	// Pipelines, sorted by their keys.
	Pipelines []Pipeline
	// Elsewhere says that of the service or its pipelines.
	Elsewhere bool
	Telemetry *Node
	// Rest are the keys that the Collector does not know.
	Rest []Field

	node *Node
}

// Pipeline is the way of one signal.
type Pipeline struct {
	// ID has the signal as its type.
	ID    ID
	Fault string
	// Receivers, Processors and Exporters; connectors are among the first and the last.
	Receivers, Processors, Exporters Members
	// Elsewhere says that of the pipeline.
	Elsewhere bool
	// Rest are the keys that the Collector does not know.
	Rest         []Field
	Line, Column int

	key string
}

// Members is a list of component ids.
type Members struct {
	Refs []Ref
	// Elsewhere says that of the list, or of one of its items.
	Elsewhere bool
}

// Ref names a component.
type Ref struct {
	ID           ID
	Fault        string
	Line, Column int

	text  string // as it is written
	place int    // in the list
}

// splitKey is a key at the root that is a path. It clashes if its first part is a key at the root as well.
type splitKey struct {
	Field

	clashes bool
}

// misshapen is a node that is not of the kind the Collector demands there.
type misshapen struct {
	path []string
	node *Node
	want string
}

// Parse reads a configuration. Its errors are those of CheckMapping; whatever else is wrong with it is for [Config.Findings]
// to say.
func Parse(body []byte) (*Config, error) {
	root, err := readRoot(body)
	if err != nil {
		return nil, err
	}
	b := builder{&Config{}}
	b.config(resolve(root))
	b.normal = normalise(b.root)
	return b.Config, nil
}

// Section returns the section of the kind.
func (c *Config) Section(k ComponentKind) *Section {
	switch k {
	case Receiver:
		return &c.Receivers
	case Processor:
		return &c.Processors
	case Exporter:
		return &c.Exporters
	case Connector:
		return &c.Connectors
	case Extension:
		return &c.Extensions
	default:
		return &Section{Kind: k}
	}
}

// sections in the order of the Collector's documentation.
func (c *Config) sections() []*Section {
	return []*Section{&c.Receivers, &c.Processors, &c.Exporters, &c.Connectors, &c.Extensions}
}
