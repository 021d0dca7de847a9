// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package revocation

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/url"
	"strings"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/pki"
)

// questionOf splits the path of a question: /pki/ocsp or /pki/{key}/ocsp, and behind it, in a GET, the question.
func questionOf(path string) (key fleet.KeyID, question string, asks bool) {
	rest, ours := strings.CutPrefix(path, "/pki/")
	if !ours {
		return "", "", false
	}
	first, rest, _ := strings.Cut(rest, "/")
	if first == "ocsp" {
		return "", rest, true
	}
	second, question, _ := strings.Cut(rest, "/")
	return fleet.KeyID(first), question, second == "ocsp" && len(first) <= maxKey
}

func (a *Answers) serve(w http.ResponseWriter, r *http.Request, key fleet.KeyID, encoded string) {
	der, status := question(w, r, encoded)
	if status != http.StatusOK {
		w.Header().Set("Allow", "GET, POST")
		http.Error(w, http.StatusText(status), status)
		return
	}
	given := a.answer(r.Context(), key, der)
	a.given.Add(r.Context(), 1, given.standing)
	if given.tag == "" {
		w.Header().Set("Content-Type", given.kind)
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(given.body) // whoever asked is gone
		return
	}
	w.Header().Set("Expires", given.next.UTC().Format(http.TimeFormat))
	given.write(w, r)
}

// question reads the DER of a question from a GET or a POST. What cannot be one at all is left for the parser to refuse.
func question(w http.ResponseWriter, r *http.Request, encoded string) (der []byte, status int) {
	switch r.Method {
	case http.MethodPost:
		der, err := io.ReadAll(http.MaxBytesReader(w, r.Body, pki.MaxQuestionSize))
		if err != nil {
			return nil, http.StatusRequestEntityTooLarge
		}
		return der, http.StatusOK
	case http.MethodGet, http.MethodHead:
		// In base64, percent-encoded or not, as clients differ: "+" stands for itself in a path.
		text, err := url.PathUnescape(encoded)
		if err != nil || len(text) > base64.StdEncoding.EncodedLen(pki.MaxQuestionSize) {
			return nil, http.StatusOK
		}
		der, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil {
			return nil, http.StatusOK
		}
		return der, http.StatusOK
	default:
		return nil, http.StatusMethodNotAllowed
	}
}
