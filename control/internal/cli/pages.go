// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
)

// pageSize is the largest page the API gives.
const pageSize = 1000

// page asks for the page behind token and returns its items and the token of the next one, "" at the end.
type page[T any] func(ctx context.Context, size int32, token string) ([]T, string, error)

// pages collects the items of all pages, in order, up to limit; 0 is no limit.
func pages[T any](ctx context.Context, limit int, ask page[T]) ([]T, error) {
	all := []T{}
	err := eachPage(ctx, limit, ask, func(items []T) bool {
		all = append(all, items...)
		return limit == 0 || len(all) < limit
	})
	if limit > 0 && len(all) > limit {
		all = all[:limit]
	}
	return all, err
}

// eachPage hands over page after page until more says that it is enough.
func eachPage[T any](ctx context.Context, limit int, ask page[T], more func([]T) bool) error {
	size := int32(pageSize)
	if 0 < limit && limit < pageSize {
		size = int32(limit)
	}
	for token := ""; ; {
		items, next, err := ask(ctx, size, token)
		if err != nil {
			return err
		}
		if !more(items) || next == "" {
			return nil
		}
		if next == token {
			return fail(ExitError, nextReport, "the server gives the same page again and again")
		}
		token = next
	}
}
