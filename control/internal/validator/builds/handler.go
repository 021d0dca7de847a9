// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package builds

import (
	"encoding/json"
	"errors"
	"net/http"

	"gitlab.com/ampora/ampora/control/internal/collector"
	"gitlab.com/ampora/ampora/control/internal/validator"
)

// longestQuestion in bytes: a configuration as base64 with what is around it.
const longestQuestion = collector.MaxBytes/3*4 + 64<<10

// Handler is the service.
func (f *Folder) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+validator.PathBuilds, func(w http.ResponseWriter, _ *http.Request) { answer(w, f.List()) })
	mux.HandleFunc("POST "+validator.PathValidate, f.validate)
	return mux
}

func (f *Folder) validate(w http.ResponseWriter, r *http.Request) {
	// A page in a browser on this machine cannot send this type without being asked whether it may.
	if r.Header.Get("Content-Type") != "application/json" {
		http.Error(w, "the content type must be application/json", http.StatusUnsupportedMediaType)
		return
	}
	var q validator.Question
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, longestQuestion)).Decode(&q); err != nil {
		if errors.As(err, new(*http.MaxBytesError)) {
			http.Error(w, "the question is too long", http.StatusRequestEntityTooLarge)
			return
		}
		http.Error(w, "the question is not JSON as it should be", http.StatusBadRequest)
		return
	}
	a, err := f.Validate(r.Context(), q)
	if err != nil { // whoever has gone away does not hear it
		http.Error(w, errBusy.Error(), http.StatusServiceUnavailable)
		return
	}
	answer(w, a)
}

func answer(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(what) // the caller went away: nobody to tell
}
