// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"reflect"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

var bodies = suite{
	"a body is what was put first under its hash": func(w *world) {
		body := store.SealedBody{Hash: fleet.HashOf([]byte("clear")), Size: 5, Sealed: []byte{0, 1, 2, 255}}
		again := body
		again.Sealed = []byte("sealed anew")
		w.must(w.PutBodies(w.Context(), w.tenant, w.now, []store.SealedBody{body}))
		w.must(w.PutBodies(w.Context(), w.tenant, w.now, []store.SealedBody{again, again}))
		got, err := w.Body(w.Context(), w.tenant, body.Hash)
		w.must(err)
		if !reflect.DeepEqual(got, body) {
			w.Errorf("got %+v, want %+v", got, body)
		}
	},
	"a tenant has its own bodies": func(w *world) {
		hash := w.in("theirs").body("clear")
		_, err := w.Body(w.Context(), w.tenant, hash)
		w.want(err, store.ErrNotFound)
		w.body("clear")
		_, err = w.Body(w.Context(), w.tenant, hash)
		w.must(err)
	},
	"no bodies are no error": func(w *world) {
		w.must(w.PutBodies(w.Context(), w.tenant, w.now, nil))
	},
	"bodies that are put at once in any order are all there": func(w *world) {
		var list []store.SealedBody
		for _, clear := range []string{"a", "b", "c", "d"} {
			list = append(list, store.SealedBody{Hash: fleet.HashOf([]byte(clear)), Size: 1, Sealed: []byte(clear)})
		}
		atOnce(w, 8, func(i int) (struct{}, error) {
			rotated := append(list[i%4:4:4], list[:i%4]...)
			return struct{}{}, w.PutBodies(w.Context(), w.tenant, w.now, rotated)
		})
		for _, b := range list {
			_, err := w.Body(w.Context(), w.tenant, b.Hash)
			w.must(err)
		}
	},
}
