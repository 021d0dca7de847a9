// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package fleet

// Traceparent names the span in which something was caused (W3C Trace Context), for whoever goes on with it later in
// another process. It is empty where nothing is recorded. Nothing is decided by it.
type Traceparent string
