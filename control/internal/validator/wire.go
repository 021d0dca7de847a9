// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package validator is what the control plane and ampora-validator say to each other, and how the control plane asks:
// whether builds of the Collector take a configuration, in their own words.
//
// The control plane shows a stand-in of the configuration ([collector.StandIn]): no reference and no secret leaves it.
// What comes back is text from a program that is not trusted, and is bounded and cleaned before anybody sees it. A
// validator that is away, slow or broken costs a few seconds and says so in the answer; nothing fails because of it.
//
// The other side is in package builds, the program in cmd/ampora-validator.
package validator

// Paths of the service: HTTP/1.1 and JSON, on a Unix socket or a loopback address.
const (
	// PathBuilds answers GET with [Builds].
	PathBuilds = "/v1/builds"
	// PathValidate answers POST of a [Question] with an [Answer].
	PathValidate = "/v1/validate"
)

// Builds are the builds of the Collector that a validator has.
type Builds struct {
	Builds []Build `json:"builds"`
}

// Build is one of them, as agents report it: service.name, and the values of service.version.
type Build struct {
	Name     string   `json:"name"`
	Versions []string `json:"versions"`
	// SHA256 is the digest of the executable, in hex.
	SHA256 string `json:"sha256"`
}

// Question asks for a configuration to be validated by a build, under one of its versions.
type Question struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Config  []byte `json:"config"`
}

// Outcome is what became of a question.
type Outcome string

// The outcomes.
const (
	// Accepted and Refused are the build's own verdict.
	Accepted Outcome = "accepted"
	Refused  Outcome = "refused"
	// Stopped: it gave none. Why says whether it took too long, crashed or printed too much.
	Stopped Outcome = "stopped"
	// NotAsked: it did not run. Why says why not.
	NotAsked Outcome = "not-asked"
	// Uncertain is a Refused that may have come of placeholders alone. Only the control plane says it.
	Uncertain Outcome = "uncertain"
)

// Answer is what became of a question.
type Answer struct {
	Outcome Outcome `json:"outcome"`
	// Output is what the build printed, within bounds.
	Output string `json:"output,omitempty"`
	// Why is a sentence, if there is no verdict.
	Why string `json:"why,omitempty"`
}
