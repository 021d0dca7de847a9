# Copyright The Ampora Authors
# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the scripts beside this file share: where the checkout is, which versions
# it pins, and a lock that makes them safe to run side by side. Sourced, never run.

AMPORA_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
AMPORA_DEV="$AMPORA_ROOT/infra/dev"
# shellcheck disable=SC2034 # used by those who source this
AMPORA_TOOLS="$AMPORA_ROOT/.tools"

# shellcheck source=infra/dev/versions.env
. "$AMPORA_DEV/versions.env"

say() { printf '%s\n' "$*" >&2; }

die() {
	say "error: $*"
	exit 1
}

# need COMMAND WHY stops with a sentence when a program is missing.
need() {
	command -v "$1" >/dev/null 2>&1 || die "$1 is not on PATH; it is needed $2"
}

# lock FILE holds FILE locked until the script ends. Where flock is missing
# (macOS) a folder stands in for it; a holder that died is recognised by its pid.
# Descriptor 9 must be closed (9>&-) for every daemon started under the lock.
lock() {
	mkdir -p "$(dirname "$1")"
	if command -v flock >/dev/null 2>&1; then
		exec 9>"$1"
		flock 9
		return
	fi
	AMPORA_LOCK="$1.d"
	until mkdir "$AMPORA_LOCK" 2>/dev/null; do
		local holder
		holder=$(cat "$AMPORA_LOCK/pid" 2>/dev/null || true)
		if [ -n "$holder" ] && ! kill -0 "$holder" 2>/dev/null; then
			rm -rf "$AMPORA_LOCK"
		else
			sleep 1
		fi
	done
	echo $$ >"$AMPORA_LOCK/pid"
	trap 'rm -rf "$AMPORA_LOCK"' EXIT
}

# digest prints the SHA-256 of its input in hex.
digest() {
	if command -v sha256sum >/dev/null 2>&1; then
		sha256sum | cut -d' ' -f1
	else
		shasum -a 256 | cut -d' ' -f1
	fi
}
