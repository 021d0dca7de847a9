// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package expression compiles and evaluates what people write in CEL to choose or to judge: selectors of groups, rules
// of tenants. An expression is a stranger's program inside ours, so the guarantees are about what it cannot do:
//
// It reads only what the caller declares and gives, changes nothing, and says yes or no. Its text, its depth and its
// nodes are bounded before it is checked, its type is checked before it is planned, and its cost is bounded twice: an
// expression that could cost more than the limit on values of the declared sizes is refused, and one that does so all
// the same is stopped. It cannot build values that grow: lists hold constants only, there are no mappings, and the
// macros are has, all, exists and exists_one. Patterns are constants of a bounded program (RE2: time is linear).
//
// Errors are faults of kind Invalid with the reasons below, or those of the context. Nothing here panics, whatever the
// text. An Environment and a Program are safe for concurrent use. Only this package knows the library.
package expression
