// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package sqlite

// keyset cuts a list that was read one row too long back to size, and returns the key of its last row if there is more.
func keyset[T any](list []T, size int, key func(T) string) ([]T, string) {
	if len(list) <= size {
		return list, ""
	}
	list = list[:size]
	return list, key(list[size-1])
}
