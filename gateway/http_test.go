// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package gateway_test

import "testing"

func TestRefusalNamesTheSchemes(t *testing.T) {
	w := start(t)
	_, header, _ := w.post(w.tls(), "/.well-known/est/simpleenroll", nil, []byte("x"))
	if schemes := header.Values("WWW-Authenticate"); len(schemes) != 2 {
		t.Errorf("the schemes are %q", schemes)
	}
}
