// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package storetest is the suite that every store passes: the sentences of package store's contract, each as a test
// whose name is the sentence. What only one backend can promise is tested beside that backend.
package storetest

import (
	"testing"

	"gitlab.com/ampora/ampora/control/internal/fleet"
	"gitlab.com/ampora/ampora/control/internal/store"
)

// suite is the sentences about one part of the contract.
type suite map[string]func(w *world)

// suites are all parts of the contract.
var suites = map[string]suite{
	"Installation": installation,
	"Access":       access,
	"Audit":        audit,
	"Enrolment":    enrolment,
	"TokenPools":   tokenPools,
	"Returns":      returns,
	"Revocation":   revocation,
	"Upkeep":       upkeep,
	"Lists":        revocationLists,
	"Responders":   responders,
	"Restoration":  restoration,
	"SigningKeys":  signingKeys,
	"Envelopes":    envelopes,
	"Bulk":         bulk,
	"Groups":       groups,
	"Grouping":     grouping,
	"Configs":      configs,
	"ConfigRules":  configRules,
	"Assignments":  assignments,
	"Bodies":       bodies,
	"Events":       events,
	"History":      history,
	"Fleet":        agents,
	"Sessions":     sessions,
	"Gateways":     gateways,
	"Replicas":     replicas,
	"Inbox":        inbox,
	"Work":         work,
	"Outbox":       outbox,
	"Queues":       queues,
	"Drift":        drift,
	"Traces":       traces,
	"Rollouts":     rollouts,
	"RolloutRaces": rolloutsAtOnce,
	"AtOnce":       together,
}

// Run holds the stores that open makes to the contract. Each call of open returns an empty store, and registers what
// ends it with the test.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for name, sentences := range suites {
		t.Run(name, func(t *testing.T) {
			for sentence, test := range sentences {
				t.Run(sentence, func(t *testing.T) { test(newWorld(t, open)) })
			}
		})
	}
}

// pages reads a list to its end in pages of two.
func pages[T any](w *world, read func(page fleet.Page) ([]T, string, error)) (all []T) {
	w.Helper()
	page := fleet.Page{Size: 2}
	for range 100 {
		list, next, err := read(page)
		w.must(err)
		if len(list) > page.Size {
			w.Fatalf("a page of %d has %d rows", page.Size, len(list))
		}
		all = append(all, list...)
		if next == "" {
			return all
		}
		page.After = next
	}
	w.Fatal("the list has no end")
	return nil
}
