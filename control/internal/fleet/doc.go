// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package fleet is the vocabulary of Ampora: agents, what they say, what they shall run, who may change it.
//
// It imports the standard library alone and holds no behaviour beyond what a word means: small types that cannot be
// swapped for each other, the states of things and which of them follow each other. Rows scan straight into these
// types and the API encodes straight out of them; there is no third shape.
//
// Zero time.Time means "not (yet)". All times are UTC.
package fleet
