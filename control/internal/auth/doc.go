// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package auth decides who may call which procedure of the public API, and says so in one way.
//
// It is one interceptor that surrounds each call whole. In this order it finds the principal, asks the procedure's
// declaration (the option ampora.v1.access) whether that principal may call it, checks the request against the rules
// of its messages, runs the handler, and turns whatever error came of it into one answer and one line of log.
//
// What is guaranteed:
//   - Nothing of a request is decoded before its principal is known and admitted.
//   - A procedure that declares no access is refused to everybody.
//   - Every refusal of a known principal is recorded in the audit log; if that fails it is still a refusal.
//   - A token that was revoked or has expired ends the streams it opened, within [RecheckInterval] of their next message.
//   - A caller learns of a bad token that it is bad, never why; of an error nobody foresaw, nothing.
//   - No secret, and nothing of a request's contents, is logged.
package auth
