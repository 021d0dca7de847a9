// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package groups lets dynamic groups choose their members.
//
// Who is in which group is decided by what is known of an agent and by the groups' definitions alone, and the same way
// whenever it is decided: an agent in a static group stays there; else the first group takes it whose selector says yes,
// by priority, highest first, then by id, oldest first. A selector that asks for what is not there says no. One that
// fails says nothing: it adds nobody, and whom it has chosen before stays. Of agents that would be changed by joining, a
// group takes all or none: more than the limit wait.
//
// What was decided is written under the generation of the definitions that it was decided by, and only for agents that
// are where they were: of several that decide at once, one wins, and who lost looks again.
package groups
