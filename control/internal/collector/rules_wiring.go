// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package collector

// wiringRules are about what is defined and what is named.
var wiringRules = []Rule{
	{
		ID: "undefined-component", Layer: Semantics, Severity: Error,
		Summary: "A pipeline names a component that is not defined.",
		Fix:     "Define it in its section, or correct the name.",
		config: func(v view, say report) {
			v.eachRef(func(p Pipeline, as ComponentKind, r Ref, at spot) {
				if r.Fault == "" && !v.resolves(as, r.ID) {
					say(at, "the pipeline %s names the %s %s, which is not defined%s", quoted(p.ID.String()), as, quoted(r.ID.String()), v.butAs(r.ID))
				}
			})
		},
	},
	{
		ID: "undefined-extension", Layer: Semantics, Severity: Error,
		Summary: "service::extensions names an extension that is not defined.",
		Fix:     "Define it below extensions, or correct the name.",
		config: func(v view, say report) {
			for _, r := range v.Service.Extensions.Refs {
				if r.Fault == "" && !v.resolves(Extension, r.ID) {
					say(r.spot("service", "extensions"), "the extension %s is not defined%s", quoted(r.ID.String()), v.butAs(r.ID))
				}
			}
		},
	},
	{
		ID: "extension-not-enabled", Layer: Semantics, Severity: Error,
		Summary: "A component asks for an extension, for storage or authentication, that service::extensions does not name: it does not start.",
		Fix:     "Define the extension and name it in service::extensions.",
		setting: func(s setting, say report) {
			id, asks := s.asksForExtension()
			if asks && s.used && !s.enabled(id) {
				say(s.spot(), "the extension %s is not enabled", quoted(id.String()))
			}
		},
	},
	{
		ID: "repeated-processor", Layer: Semantics, Severity: Error,
		Summary: "A pipeline names a processor twice.",
		Fix:     "Define a second one under a name of its own: attributes/second.",
		config: func(v view, say report) {
			v.eachRepeated(func(p Pipeline, as ComponentKind, r Ref, at spot) {
				if as == Processor {
					say(at, "the pipeline %s names the processor %s twice", quoted(p.ID.String()), quoted(r.ID.String()))
				}
			})
		},
	},
	{
		ID: "repeated-component", Layer: Semantics, Severity: Warning,
		Summary: "A pipeline names a receiver or exporter twice. It is taken once.",
		Fix:     "Remove one of them; if another one was meant, name that.",
		config: func(v view, say report) {
			v.eachRepeated(func(p Pipeline, as ComponentKind, r Ref, at spot) {
				if as != Processor {
					say(at, "the pipeline %s names the %s %s twice", quoted(p.ID.String()), as, quoted(r.ID.String()))
				}
			})
		},
	},
	{
		ID: "unused-component", Layer: Semantics, Severity: Warning,
		Summary: "A component is defined, but no pipeline names it: it does not run.",
		Fix:     "Name it in a pipeline, or remove it.",
		config: func(v view, say report) {
			v.eachComponent(func(c Component) {
				if c.Kind != Extension && c.Fault == "" && !v.uses(c) {
					say(c.spot(), "no pipeline names the %s %s", c.Kind, quoted(c.ID.String()))
				}
			})
		},
	},
	{
		ID: "unused-extension", Layer: Semantics, Severity: Warning,
		Summary: "An extension is defined, but service::extensions does not name it: it does not run.",
		Fix:     "Name it in service::extensions, or remove it.",
		config: func(v view, say report) {
			for _, c := range v.Extensions.Components {
				if c.Fault == "" && !v.uses(c) {
					say(c.spot(), "service::extensions does not name %s", quoted(c.ID.String()))
				}
			}
		},
	},
}

// butAs says in which other sections an id is defined.
func (v view) butAs(id ID) string {
	for _, s := range v.sections() {
		if v.defined[s.Kind][id] {
			return "; there is " + article(s.Kind) + " of that name"
		}
	}
	return ""
}

func article(k ComponentKind) string {
	if k == Exporter || k == Extension {
		return "an " + string(k)
	}
	return "a " + string(k)
}

// eachRepeated calls visit for every name that a list of a pipeline has had before.
func (v view) eachRepeated(visit func(p Pipeline, as ComponentKind, r Ref, at spot)) {
	for _, p := range v.Service.Pipelines {
		for _, role := range p.roles() {
			seen := map[ID]bool{}
			for _, r := range role.members.Refs {
				if seen[r.ID] && r.Fault == "" {
					visit(p, role.kind, r, p.member(role.kind, r))
				}
				seen[r.ID] = true
			}
		}
	}
}

// asksForExtension reads the settings by which components name an extension: auth::authenticator, and storage of
// receivers and of sending queues.
func (s setting) asksForExtension() (ID, bool) {
	key, depth := s.field.Key, len(s.path)
	switch {
	case key == "authenticator" && depth > 1 && s.path[depth-2] == "auth":
	case key == "storage" && depth == 1 && s.component.Kind == Receiver:
	case key == "storage" && depth > 1 && s.path[depth-2] == "sending_queue":
	default:
		return ID{}, false
	}
	if !s.field.Value.is(String) || hasReference(s.field.Value.Text) {
		return ID{}, false
	}
	id, wrong := parseID(s.field.Value.Text)
	return id, wrong == ""
}
