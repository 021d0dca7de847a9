// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

// Rendering is what a template became for agents of which the same is known.
type Rendering struct {
	Config  ConfigID
	Version int
	Offer   OfferHash
	Hash    ContentHash // of the body
	Size    int64
}

// TemplateValues are what a template may ask for of an agent.
type TemplateValues struct {
	Tags   map[string]string
	Labels map[string]string
	// Agent has id, service_name, service_version, host_name and group; what is empty is not known.
	Agent map[string]string
}

// Value is what is known under a key of a source: "tag", "label" or "agent".
func (v TemplateValues) Value(source, key string) (value string, known bool) {
	switch source {
	case "tag":
		value, known = v.Tags[key]
	case "label":
		value, known = v.Labels[key]
	case "agent":
		value = v.Agent[key]
		known = value != ""
	}
	return value, known
}
