// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

// Build is what a number of agents of one name and version were built with, as they say alike.
type Build struct {
	ServiceName    string
	ServiceVersion string
	// Components is what they have; nil if they did not say.
	Components []Component
	// Agents is how many there are, Example one of them.
	Agents  int
	Example AgentID
}
