#!/usr/bin/env bash
# Copyright The Ampora Authors
# SPDX-License-Identifier: Apache-2.0
#
# demo.sh shows Ampora to a newcomer, on this machine alone: it starts the
# all-in-one, enrols a real OpenTelemetry Collector under the stock supervisor and
# three simulated agents, gives them a configuration, then one that fails, and
# says where to look. `make demo` builds the programs first.
#
# On a terminal, or with DEMO_KEEP=1, it goes on until Ctrl-C; otherwise it stops
# everything and exits with 0 if all of it went as told.
#
#   DEMO_DIR         where its data and logs go; default: a temporary folder that
#                    is removed at the end. A DEMO_DIR stays.
#   DEMO_BIN         where the programs are; default: bin/ of this checkout
#   DEMO_AGENTS      where otelcol and opampsupervisor are; default: agents.sh
#                    builds them
#   DEMO_HTTP_PORT, DEMO_OPAMP_PORT, DEMO_OPS_PORT
#                    ports on loopback; default: 8080, 4320, 8081, or the next
#                    free ones

set -euo pipefail
# What is meant for another installation must not reach this one.
for variable in $(compgen -e AMPORA_ || true); do
	[ "$variable" = AMPORA_AGENTS_CACHE ] || unset "$variable"
done
# shellcheck source=infra/dev/workspace.sh
. "$(dirname "${BASH_SOURCE[0]}")/workspace.sh"

# Job control: each background program gets a process group of its own, so that
# Ctrl-C reaches this script alone, which stops them in order.
set -m

bin=${DEMO_BIN:-$AMPORA_ROOT/bin}
work=${DEMO_DIR:-$(mktemp -d "${TMPDIR:-/tmp}/ampora-demo.XXXXXX")}
mkdir -p "$work"
work=$(cd "$work" && pwd -P)
ampora='' supervisor='' simulated=''

# --- telling

chapter() { printf '\n\033[1m%s\033[0m\n' "== $*"; }
tell() { printf '%s\n' "$*"; }

# show runs a command the way a reader can repeat it.
show() {
	printf '\n$ %s\n' "$*"
	"$@"
}

# --- stopping

# stop SIGNAL PID asks a program to end, waits, and ends what is left of its group:
# a supervisor that is killed leaves its collector behind.
stop() {
	[ -n "$2" ] || return 0
	kill "-$1" "$2" 2>/dev/null || true
	local try
	for try in {1..150}; do
		kill -0 "$2" 2>/dev/null || break
		sleep 0.1
	done
	[ "$try" -lt 150 ] || say "process $2 does not stop, killing it"
	kill -KILL -- "-$2" 2>/dev/null || true
	wait "$2" 2>/dev/null || true
}

# kept says that the demo has shown all it has.
kept=
finish() {
	local code=$?
	trap - EXIT INT TERM
	[ -z "$kept" ] || code=0
	if [ "$code" != 0 ]; then
		say ""
		say "error: the demo stopped early. Ends of the logs in $work:"
		tail -n 15 "$work"/*.log >&2 2>/dev/null || true
	fi
	stop INT "$supervisor"
	stop INT "$simulated"
	stop TERM "$ampora"
	if [ -z "${DEMO_DIR:-}" ] && [ "$code" = 0 ]; then
		rm -rf "$work"
	fi
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# --- waiting

# await SECONDS WHAT COMMAND... runs the command until it succeeds.
await() {
	local seconds=$1 what=$2 end
	shift 2
	end=$((SECONDS + seconds))
	until "$@" >/dev/null 2>&1; do
		kill -0 "$ampora" 2>/dev/null || die "ampora has ended"
		[ "$SECONDS" -lt "$end" ] || die "waited $seconds s for $what"
		sleep 0.3
	done
}

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# port OVERRIDE DEFAULT prints the port to use.
port() {
	local free=$2
	if [ -n "$1" ]; then
		! listening "$1" || die "port $1 is taken"
		echo "$1"
		return
	fi
	while listening "$free"; do
		free=$((free + 1))
	done
	echo "$free"
}

ready() {
	local answer
	exec 3<>"/dev/tcp/127.0.0.1/$ops" || return 1
	printf 'GET /health/ready HTTP/1.0\r\n\r\n' >&3
	read -r answer <&3
	exec 3>&-
	[[ $answer == *" 200 "* ]]
}

online() { [ "$(amporactl agents list --presence online | tail -n +2 | wc -l)" -eq "$1" ]; }

restored() { amporactl agents get "$collector" | grep -q '^Put back to:' && amporactl agents get "$collector" | grep -q '^Last answer: *applied'; }

# --- the story

programs() {
	local program
	for program in ampora amporactl; do
		[ -x "$bin/$program" ] || die "no $program in $bin: run make demo, or make build first"
	done
	need go "to build the simulated agents"
	agents=${DEMO_AGENTS:-$("$AMPORA_DEV/agents.sh")}
	(cd "$AMPORA_ROOT/loadtest" && CGO_ENABLED=0 go build -o "$work/testagent" ./cmd/testagent)
	export PATH="$bin:$agents:$PATH"
}

start_ampora() {
	chapter "Ampora starts: gateway, control plane and certificate authority in one process, on SQLite"
	local http opamp
	http=$(port "${DEMO_HTTP_PORT:-}" 8080)
	opamp=$(port "${DEMO_OPAMP_PORT:-}" 4320)
	ops=$(port "${DEMO_OPS_PORT:-}" 8081)
	[ "$ops" != "$http" ] || ops=$(port "" $((http + 1)))
	export AMPORA_SERVER="http://127.0.0.1:$http" AMPORA_OPAMP_URL="wss://127.0.0.1:$opamp/v1/opamp"
	AMPORA_DATA_DIR="$work/ampora" AMPORA_HTTP_ADDR="127.0.0.1:$http" AMPORA_PKI_ADDR="127.0.0.1:0" AMPORA_OPAMP_ADDR="127.0.0.1:$opamp" \
		AMPORA_OPS_ADDR="127.0.0.1:$ops" AMPORA_OPAMP_PUBLIC_URL="$AMPORA_OPAMP_URL" AMPORA_LOG_FORMAT=text \
		AMPORA_DRAIN_DURATION=1s ampora >"$work/ampora.log" 2>&1 &
	ampora=$!
	await 60 "ampora to be ready" ready
	gateway="https://127.0.0.1:$opamp"
	server_ca="$work/ampora/server-ca.pem"
	show amporactl system get
}

enrol_collector() {
	chapter "A real collector enrols: a single-use token is traded for a certificate, whose key is made here and stays here"
	show amporactl groups create demo
	show amporactl tokens issue --group demo --out "$work/token"
	show amporactl enroll --server "$gateway" --ca-file "$server_ca" --token-file "$work/token" --out-dir "$work/identity"
	mkdir -p "$work/storage"
	tell ""
	tell "The stock OpAMP supervisor starts with these files (docs/examples/supervisor-enrolled.yaml)."
	AMPORA_IDENTITY="$work/identity" AMPORA_COLLECTOR="$agents/otelcol" AMPORA_STORAGE="$work/storage" \
		opampsupervisor --config "$AMPORA_ROOT/docs/examples/supervisor-enrolled.yaml" >"$work/supervisor.log" 2>&1 &
	supervisor=$!
}

enrol_simulated() {
	chapter "Three simulated agents join: each brings a token and a certificate request of its own"
	local number
	for number in 1 2 3; do
		amporactl tokens issue --group demo --out "$work/token-$number" 2>/dev/null
	done
	(umask 077 && cat "$work"/token-[123] >"$work/tokens")
	"$work/testagent" -endpoint "$AMPORA_OPAMP_URL" -ca-file "$server_ca" -token-file "$work/tokens" \
		-name simulated -n 3 -fail-on otlp_http/missing >"$work/simulated.log" 2>&1 &
	simulated=$!
	await 60 "four agents to be online" online 4
	show amporactl agents list
	collector=$(amporactl agents list --name-prefix otelcol | awk 'NR == 2 { print $1 }')
	[ -n "$collector" ] || die "the collector is not in the list"
}

configure() {
	chapter "A configuration is published and assigned to the group; every agent says what became of it"
	show amporactl configs create edge -f "$AMPORA_ROOT/docs/examples/edge.yaml" --publish
	show amporactl configs assign edge --group demo --wait --timeout 60s
	show amporactl agents get "$collector"
	tell ""
	tell "What the collector really runs, in its own words (the beginning):"
	show amporactl agents effective-config "$collector" | sed -n '1,16p'
}

break_it() {
	chapter "Another one is a mapping, so it can be published, but it fails on every agent"
	show amporactl configs create edge-broken -f "$AMPORA_ROOT/docs/examples/edge-broken.yaml" --publish
	local code=0
	show amporactl configs assign edge-broken --group demo --wait --timeout 60s || code=$?
	[ "$code" = 4 ] || die "the exit code is $code; 4 says that it failed on agents"
	tell ""
	tell "(Exit code 4: it failed on agents.) The last good one is put back, and the failed one is not offered again by itself:"
	await 60 "the collector to be put back" restored
	show amporactl agents list
	show amporactl agents get "$collector" | grep -E '^\$|^(Configuration|State|Message|Put back to|Last answer|Attention):|^$'
}

say_where() {
	chapter "Where to look"
	cat <<-TEXT
		API        $AMPORA_SERVER (no login needed from this machine, in development)
		agents     $AMPORA_OPAMP_URL
		health     http://127.0.0.1:$ops/health/ready and /metrics
		logs       $work/*.log, the collector's own: $work/storage/agent.log
		data       $work/ampora

		To try, in another shell:
		  export PATH=$bin:\$PATH AMPORA_SERVER=$AMPORA_SERVER
		  amporactl agents watch
		  amporactl events list
		  amporactl configs assign edge --group demo --wait
		  amporactl agents retry $collector
		  amporactl audit list

		To read on: docs/guides/getting-started.md, then docs/README.md.
	TEXT
}

programs
start_ampora
enrol_collector
enrol_simulated
configure
break_it
say_where
if [ "${DEMO_KEEP:-}" = 1 ] || { [ -t 0 ] && [ -t 1 ]; }; then
	kept=1
	chapter "It goes on until Ctrl-C"
	wait "$ampora" || true
else
	chapter "Everything stops now; on a terminal, or with DEMO_KEEP=1, it goes on until Ctrl-C"
fi
