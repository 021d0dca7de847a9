// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gitlab.com/ampora/ampora/shared/bus"
	"gitlab.com/ampora/ampora/shared/bus/postgres"
	"gitlab.com/ampora/ampora/shared/identity"
)

// Each party may do what is its own, and is refused the rest by the database.
func TestPartiesAreConfined(t *testing.T) {
	d := newDatabase(t)
	p := newParties(t, d, "")
	control, gateway := p.control, p.gateway("one")
	hour, register := time.Hour, bus.Register{Name: "a", Value: []byte("x")}
	do := map[string]func(b bus.Bus) error{
		"publish":         func(b bus.Bus) error { return b.Publish(t.Context(), bus.Outgoing{Payload: []byte("x")}) },
		"read":            func(b bus.Bus) error { _, err := b.Read(t.Context(), 0, "", 1); return err },
		"trim":            func(b bus.Bus) error { return b.Trim(t.Context(), 0, "") },
		"send":            func(b bus.Bus) error { return b.Send(t.Context(), "one", hour, []byte("x")) },
		"receive":         func(b bus.Bus) error { _, err := b.Receive(t.Context(), "one", "", 1); return err },
		"receive other":   func(b bus.Bus) error { _, err := b.Receive(t.Context(), "other", "", 1); return err },
		"set mail":        func(b bus.Bus) error { return b.Set(t.Context(), bus.Mail, hour, register) },
		"set polls":       func(b bus.Bus) error { return b.Set(t.Context(), bus.Polls, hour, register) },
		"set marks":       func(b bus.Bus) error { return b.Set(t.Context(), bus.Marks("one"), hour, register) },
		"set other marks": func(b bus.Bus) error { return b.Set(t.Context(), bus.Marks("other"), hour, register) },
		"set another":     func(b bus.Bus) error { return b.Set(t.Context(), "another", hour, register) },
		"get mail":        func(b bus.Bus) error { _, err := b.Get(t.Context(), bus.Mail, "a"); return err },
		"get polls":       func(b bus.Bus) error { _, err := b.Get(t.Context(), bus.Polls, "a"); return err },
		"get marks":       func(b bus.Bus) error { _, err := b.Get(t.Context(), bus.Marks("one"), "a"); return err },
		"get other marks": func(b bus.Bus) error { _, err := b.Get(t.Context(), bus.Marks("other"), "a"); return err },
	}
	mayGateway := []string{"publish", "receive", "set polls", "set marks", "get mail", "get polls", "get marks"}
	mayControl := []string{"read", "trim", "send", "set mail", "get mail", "get polls", "get marks", "get other marks"}
	for name, call := range do {
		for _, who := range []struct {
			name string
			b    bus.Bus
			may  []string
		}{{"gateway", gateway, mayGateway}, {"control", control, mayControl}} {
			var want error
			if !slices.Contains(who.may, name) {
				want = postgres.ErrDenied
			}
			if err := call(who.b); !errors.Is(err, want) {
				t.Errorf("%s by %s: %v, want %v", name, who.name, err, want)
			}
		}
	}
}

// The tests below speak SQL, as somebody would who has stolen a gateway's login.

func TestAGatewaysLoginReachesNoTable(t *testing.T) {
	d := newDatabase(t)
	d.run("INSERT INTO ampora_migrations VALUES (1, true, now())")
	stolen := connect(t, d.admit("one"))
	const ours = "IN ('public'::regnamespace, 'ampora_bus'::regnamespace)"
	tables := column[string](t, d.super, "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace "+ours)
	others := column[string](t, d.super, "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('v', 'm', 'S') AND relnamespace "+ours)
	if len(tables) < 30 {
		t.Fatalf("the schema has only %v", tables)
	}
	for _, role := range []string{"NONE", "ampora_bus_gateway"} {
		run(t, stolen, "SET ROLE "+role)
		for _, name := range append(others, tables...) {
			if name == "ampora_migrations" {
				if rows := column[int64](t, stolen, "SELECT version_id FROM ampora_migrations"); len(rows) != 0 {
					t.Errorf("it sees which migrations ran: %v", rows)
				}
				continue
			}
			wantRefused(t, stolen, "SELECT FROM "+name)
		}
		for _, name := range tables {
			wantRefused(t, stolen, "DELETE FROM "+name)
			wantRefused(t, stolen, "TRUNCATE "+name)
		}
	}
}

func TestAGatewaysLoginMakesNothing(t *testing.T) {
	d := newDatabase(t)
	// What docs/operator/postgres-bus.md asks a superuser for.
	d.run("REVOKE EXECUTE ON FUNCTION lo_creat(integer), lo_create(oid), lo_from_bytea(oid, bytea) FROM PUBLIC")
	stolen := connect(t, d.admit("one"))
	for _, role := range []string{"NONE", "ampora_bus_gateway"} {
		run(t, stolen, "SET ROLE "+role)
		for _, statement := range []string{
			"CREATE TABLE public.x ()", "CREATE TABLE ampora_bus.x ()", "CREATE TEMPORARY TABLE x ()", "CREATE SCHEMA x",
			"CREATE FUNCTION ampora_bus.x() RETURNS int LANGUAGE sql RETURN 1", "CREATE FUNCTION public.x() RETURNS int LANGUAGE sql RETURN 1",
			"CREATE SEQUENCE public.x", "CREATE ROLE x", "SELECT lo_create(0)", "SELECT lo_from_bytea(0, 'x')",
			"INSERT INTO ampora_bus.logins VALUES (session_user, 'other')", "SELECT ampora_bus.admit(session_user, 'other')",
			"SET ROLE ampora_bus_control", "SET ROLE ampora_api", "SET ROLE ampora_worker", "SET SESSION AUTHORIZATION postgres",
			"GRANT ampora_bus_control TO CURRENT_USER",
		} {
			wantRefused(t, stolen, statement)
		}
	}
}

// Whatever function a later migration adds, it is granted to somebody by name or nobody.
func TestFunctionsAreGrantedByName(t *testing.T) {
	d := newDatabase(t)
	may := map[string][]string{
		"ampora_bus_control": {"enter", "look_up", "post", "read", "send", "sweep", "trim"},
		"ampora_bus_gateway": {"consult", "enter", "note", "publish", "receive"},
		"ampora_api":         {}, "ampora_worker": {},
	}
	for role, want := range may {
		got := column[string](t, d.super, `
			SELECT proname::text FROM pg_proc WHERE pronamespace = 'ampora_bus'::regnamespace AND has_function_privilege($1, oid, 'EXECUTE') ORDER BY 1`, role)
		if !slices.Equal(got, want) {
			t.Errorf("%s may call %v, want %v", role, got, want)
		}
		if usable := column[bool](t, d.super, "SELECT has_schema_privilege($1, 'ampora_bus', 'USAGE')", role)[0]; usable != (len(want) > 0) {
			t.Errorf("%s may use the schema: %v", role, usable)
		}
		strong := column[bool](t, d.super, `
			SELECT rolcanlogin OR rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication FROM pg_roles WHERE rolname = $1`, role)
		if len(strong) != 1 || strong[0] {
			t.Errorf("%s is missing or may do too much", role)
		}
	}
	if loose := column[string](t, d.super, `
		SELECT proname::text FROM pg_proc WHERE pronamespace = 'ampora_bus'::regnamespace AND prosecdef
		AND NOT 'search_path=pg_catalog, pg_temp' = ANY (proconfig)`); len(loose) != 0 {
		t.Errorf("%v run as the owner and find names where the caller says", loose)
	}
}

func TestPublishTakesNothingButMessages(t *testing.T) {
	d := newDatabase(t)
	stolen := connect(t, d.admit("one"))
	run(t, stolen, "SET ROLE ampora_bus_gateway")
	for _, statement := range []string{
		"SELECT ampora_bus.publish('{64}', '{x}')", "SELECT ampora_bus.publish('{-1}', '{x}')", "SELECT ampora_bus.publish('{NULL}', '{x}')",
		"SELECT ampora_bus.publish('{1}', '{NULL}')", "SELECT ampora_bus.publish('{1,2}', '{x}')", "SELECT ampora_bus.publish('{1}', '{x,y}')",
		"SELECT ampora_bus.publish('{1}', ARRAY[convert_to(repeat('x', 1048577), 'UTF8')])",
		"SELECT ampora_bus.note('polls', 1, '{a}', ARRAY[convert_to(repeat('x', 65537), 'UTF8')])",
		"SELECT ampora_bus.note('polls', 1, ARRAY[repeat('x', 201)], '{x}')",
	} {
		if _, err := stolen.Exec(t.Context(), statement); err == nil {
			t.Errorf("%s was taken", statement)
		}
	}
	if rows := column[string](t, d.super, "SELECT stream FROM ampora_bus.messages"); len(rows) != 0 {
		t.Errorf("it left %v", rows)
	}
}

func TestAdmission(t *testing.T) {
	d := newDatabase(t)
	b, err := postgres.Open(t.Context(), d.admit("one"), postgres.Options{Gateway: "one"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	login := d.admitted["one"]
	d.run("SELECT ampora_bus.dismiss($1)", login)
	if err := b.Publish(t.Context(), bus.Outgoing{Payload: []byte("x")}); !errors.Is(err, postgres.ErrDenied) {
		t.Errorf("a login that was dismissed published: %v", err)
	}
	d.run("SELECT ampora_bus.admit($1, 'one')", login)
	if err := b.Publish(t.Context(), bus.Outgoing{Payload: []byte("x")}); err != nil {
		t.Errorf("admitted again: %v", err)
	}
	for _, strong := range []string{serverURL(t).User.Username(), controlLogin} {
		wantRefused(t, d.super, fmt.Sprintf("SELECT ampora_bus.admit('%s', 'one')", strong))
	}
}

func TestOpenSaysWhatIsWrong(t *testing.T) {
	d, bare := newDatabase(t), newDatabase(t)
	one := d.admit("one")
	bare.run("DROP SCHEMA ampora_bus CASCADE")
	d.run(createLogin("ampora_bus_test_stranger"))
	const password = "hunter2"
	for name, c := range map[string]struct {
		url     string
		gateway identity.GatewayID
		want    error
	}{
		"another gateway's login": {one, "other", postgres.ErrDenied},
		"a gateway as control":    {one, "", postgres.ErrDenied},
		"control as a gateway":    {d.url(controlLogin), "one", postgres.ErrDenied},
		"a stranger":              {d.url("ampora_bus_test_stranger"), "one", postgres.ErrDenied},
		"a stranger as control":   {d.url("ampora_bus_test_stranger"), "", postgres.ErrDenied},
		"no such login":           {d.url("ampora_bus_test_nobody"), "one", postgres.ErrDenied},
		"not migrated":            {bare.url(controlLogin), "", postgres.ErrNoSchema},
		"no such database":        {"postgres://" + controlLogin + ":" + password + "@" + serverURL(t).Host + "/nowhere", "", postgres.ErrNoSchema},
		"nobody there":            {"postgres://x:" + password + "@127.0.0.1:1/x", "", bus.ErrUnavailable},
		"no URL":                  {"postgres://x:" + password + "@/x?pool_max_conns=y", "", nil},
		"a URL of something else": {"redis://x:" + password + "@127.0.0.1:1", "", nil},
		"a broken URL":            {"postgres://x:" + password + "%zz@h:p/x", "", nil},
	} {
		b, err := postgres.Open(t.Context(), c.url, postgres.Options{Gateway: c.gateway})
		if err == nil {
			_ = b.Close()
			t.Errorf("%s: it opened", name)
			continue
		}
		if c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
		if strings.Contains(err.Error(), password) {
			t.Errorf("%s: the error repeats the password: %v", name, err)
		}
	}
}

// In production the owner of the schema is no superuser, and so neither is whom the
// functions run as.
func TestAnOwnerWithoutPrivileges(t *testing.T) {
	d := newDatabase(t)
	d.run(createLogin("ampora_bus_test_owner"))
	d.run("ALTER ROLE ampora_bus_test_owner CREATEROLE")
	d.run("GRANT ampora_api, ampora_worker, ampora_bus_control, ampora_bus_gateway TO ampora_bus_test_owner WITH ADMIN OPTION")
	d.run("DROP SCHEMA ampora_bus CASCADE")
	d.run("DROP SCHEMA public CASCADE")
	d.run("ALTER DATABASE " + d.name + " OWNER TO ampora_bus_test_owner")
	text, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	owner := connect(t, d.url("ampora_bus_test_owner"))
	run(t, owner, "CREATE SCHEMA public")
	if _, err := owner.PgConn().Exec(t.Context(), text).ReadAll(); err != nil {
		t.Fatal(err)
	}
	d.super = owner
	p := newParties(t, d, "")
	batch, err := p.Read(t.Context(), 0, "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Publish(t.Context(), bus.Outgoing{Payload: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	if batch, err = p.Read(t.Context(), 0, batch.Next, 1); err != nil || batch.Lost {
		t.Fatal(batch.Lost, err)
	}
	if err := p.Trim(t.Context(), 0, batch.Next); err != nil {
		t.Fatal(err)
	}
}

// wantRefused wants a statement to fail for want of privilege.
func wantRefused(t *testing.T, conn *pgx.Conn, statement string) {
	t.Helper()
	_, err := conn.Exec(context.WithoutCancel(t.Context()), statement)
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != "42501" {
		t.Errorf("%s: %v, want it refused", statement, err)
	}
}

func column[T any](t *testing.T, conn *pgx.Conn, query string, args ...any) []T {
	t.Helper()
	rows, err := conn.Query(t.Context(), query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return values
}
