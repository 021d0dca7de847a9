// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package storetest

import "sync"

// atOnce runs do n times at once and returns what succeeded, fails the test for what did not.
func atOnce[T any](w *world, n int, do func(i int) (T, error)) []T {
	w.Helper()
	results, failures := race(n, do)
	for _, err := range failures {
		w.Error(err)
	}
	return results
}

// race runs do n times at once, and returns what succeeded and how the others failed.
func race[T any](n int, do func(i int) (T, error)) (results []T, failures []error) {
	var mu sync.Mutex
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			result, err := do(i)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failures = append(failures, err)
			} else {
				results = append(results, result)
			}
		})
	}
	close(start)
	all.Wait()
	return results, failures
}
