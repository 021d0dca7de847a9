// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package cli is amporactl: the command line of Ampora, a client of the public API and of nothing else.
//
// What it guarantees:
//
//   - No secret is ever taken from, or written to, the command line: secrets come from files, standard input or the
//     environment, and the ones the server mints are shown once, alone on standard output or in a file of mode 0600.
//   - Text that agents or other people supplied cannot drive the terminal: control, formatting and invalid characters
//     are escaped in everything a person reads. Bytes asked for as bytes (configurations) are exact when standard
//     output is anything but a terminal.
//   - Results go to standard output, everything else (progress, hints, errors) to standard error.
//   - The exit code says what kind of thing went wrong; the list is [ExitCodes], shown by "amporactl help exit-codes".
//   - -o json and -o yaml print the messages of the API in its JSON mapping: fields in the order of the definition,
//     lowerCamelCase, empty ones included, times in RFC 3339.
package cli
