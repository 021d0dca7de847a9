// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package api is the public API: the services of ampora.v1, one file each, over Connect, gRPC and gRPC-Web.
//
// A handler decodes, calls and encodes. Who may call it, whether the request is well formed and what an error looks
// like on the wire is package auth's business, whose interceptor must surround the server; what may happen is the
// store's and the vocabulary's.
//
// What is guaranteed: bodies come back byte for byte as they went in; whatever may hold somebody's secrets leaves only
// after its revealing stands in the audit log; secrets are shown once, in the answer that makes them; a place in a list
// (page token, cursor) that was made by another list, or altered, is refused.
package api
