-- Copyright The Ampora Authors
-- SPDX-License-Identifier: Apache-2.0

-- The bus on PostgreSQL, for installations without Redis: a schema of its own that only functions can reach. Two roles
-- without login may call them: ampora_bus_control, which the control plane takes, and ampora_bus_gateway, which each
-- gateway takes under a login of its own. Neither has a privilege on any table. A function that acts for a gateway asks
-- session_user, which no SET ROLE changes, and acts for the gateway that this login was admitted as.
--
-- Streams, messages and registers are unlogged: a crash or a failover empties them, and costs no write-ahead log before.
-- What makes that loss visible is the row in life. It goes with the tables, and is no good anywhere but in the place and
-- the transaction that made it: a restored copy of it is not. Each stream was made in a life, and begins anew in another.
--
-- Rows are inserted and deleted, not updated, and looked for from the end that lives: however long some transaction
-- keeps vacuum from removing dead rows (a dump, say), no lookup has to step over them.

-- +goose Up
-- +goose StatementBegin
DO $$
DECLARE
    r text;
BEGIN
    -- As in 00001: roles belong to the cluster.
    FOREACH r IN ARRAY ARRAY['ampora_bus_control', 'ampora_bus_gateway'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS', r);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;
        END;
    END LOOP;
    IF NOT pg_has_role(current_user, 'ampora_bus_control', 'SET') THEN
        BEGIN
            EXECUTE format('GRANT ampora_bus_control TO %I WITH INHERIT FALSE, SET TRUE', current_user);
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION 'the role ampora_bus_control exists in this cluster already, and % may not take it; a superuser can let it: GRANT ampora_bus_control, ampora_bus_gateway TO % WITH ADMIN OPTION',
                current_user, quote_ident(current_user);
        END;
    END IF;
END
$$;
-- +goose StatementEnd

CREATE SCHEMA ampora_bus;

-- How much a stream may hold.
CREATE TABLE ampora_bus.bounds (
    one      boolean PRIMARY KEY DEFAULT true CHECK (one),
    messages integer NOT NULL CHECK (messages > 0),
    bytes    bigint NOT NULL CHECK (bytes >= 1048576) -- or the largest message would never fit
);
INSERT INTO ampora_bus.bounds (messages, bytes) VALUES (8192, 4194304);

-- Which gateway a login is.
CREATE TABLE ampora_bus.logins (
    login   text PRIMARY KEY,
    gateway text NOT NULL CHECK (gateway <> '')
);

CREATE UNLOGGED TABLE ampora_bus.life (
    one   boolean PRIMARY KEY DEFAULT true CHECK (one),
    id    uuid NOT NULL DEFAULT gen_random_uuid(),
    place text NOT NULL,
    born  xid8 NOT NULL DEFAULT pg_current_xact_id()
);

-- A row per stream, 'up/<partition>' or 'down/<gateway>', which whoever changes the stream locks.
CREATE UNLOGGED TABLE ampora_bus.streams (
    stream text COLLATE "C" PRIMARY KEY,
    id     uuid NOT NULL,
    life   uuid NOT NULL
);

-- Numbers begin at 1 and have gaps only where messages were forgotten. total is the bytes of all payloads of the stream
-- up to this one and with it; downlinks do not keep it.
CREATE UNLOGGED TABLE ampora_bus.messages (
    stream  text COLLATE "C",
    number  bigint,
    total   bigint NOT NULL DEFAULT 0,
    expires timestamptz,
    payload bytea NOT NULL CHECK (octet_length(payload) <= 1048576),
    PRIMARY KEY (stream, number)
) WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false);
ALTER TABLE ampora_bus.messages ALTER COLUMN payload SET STORAGE EXTERNAL; -- read once and soon: not worth compressing

-- What a stream has forgotten; its row with the highest numbers counts. At or below base nothing is retained. forgotten
-- is the highest number that was ever dropped: above base where messages expired behind one that lives.
CREATE UNLOGGED TABLE ampora_bus.floors (
    stream    text COLLATE "C",
    forgotten bigint,
    base      bigint,
    total     bigint NOT NULL,
    PRIMARY KEY (stream, forgotten, base)
) WITH (autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_insert_threshold = -1,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = false);

CREATE UNLOGGED TABLE ampora_bus.registers (
    shelf   text COLLATE "C",
    name    text COLLATE "C" CHECK (octet_length(name) <= 200),
    life    uuid NOT NULL,
    expires timestamptz NOT NULL,
    value   bytea NOT NULL CHECK (octet_length(value) <= 65536),
    PRIMARY KEY (shelf, name)
) WITH (fillfactor = 60, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_scale_factor = 0.05,
    autovacuum_vacuum_insert_threshold = -1, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE ampora_bus.registers ALTER COLUMN value SET STORAGE EXTERNAL;

-- Who empties or thins these tables by hand ends the life, so that readers learn of it. The functions below are known by
-- their search_path.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.end_life() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM ampora_bus.life;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
CREATE TRIGGER emptied AFTER TRUNCATE ON ampora_bus.messages EXECUTE FUNCTION ampora_bus.end_life();
CREATE TRIGGER emptied AFTER TRUNCATE ON ampora_bus.floors EXECUTE FUNCTION ampora_bus.end_life();
CREATE TRIGGER thinned AFTER DELETE ON ampora_bus.messages
    WHEN (current_setting('search_path') <> 'pg_catalog, pg_temp') EXECUTE FUNCTION ampora_bus.end_life();
CREATE TRIGGER thinned AFTER DELETE ON ampora_bus.floors
    WHEN (current_setting('search_path') <> 'pg_catalog, pg_temp') EXECUTE FUNCTION ampora_bus.end_life();

-- For the functions further below, which call these with their own rights and settings: nobody else may.

-- Where this database is. No copy of it is in the same place.
CREATE FUNCTION ampora_bus.place() RETURNS text LANGUAGE sql STABLE
    RETURN (SELECT s.system_identifier || '/' || d.oid FROM pg_control_system() s, pg_database d WHERE d.datname = current_database());

-- The life of the tables; null before the first, and after a crash, a failover, a restore or an emptying.
CREATE FUNCTION ampora_bus.alive() RETURNS uuid LANGUAGE sql STABLE
    RETURN (SELECT id FROM ampora_bus.life WHERE xmin = born::xid);

-- begin_life returns the life of the tables, and begins one if there is none.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.begin_life() RETURNS uuid LANGUAGE plpgsql AS $$
DECLARE
    alive uuid := ampora_bus.alive();
BEGIN
    IF alive IS NULL THEN
        DELETE FROM ampora_bus.life WHERE xmin <> born::xid;
        INSERT INTO ampora_bus.life (place) VALUES (ampora_bus.place()) ON CONFLICT DO NOTHING;
        alive := ampora_bus.alive();
    END IF;
    IF alive IS NULL THEN
        RAISE EXCEPTION 'the bus was emptied meanwhile' USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN alive;
END
$$;
-- +goose StatementEnd

-- begin_streams makes those streams that are missing, or of another life, and then leaves them empty.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.begin_streams(names text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    alive uuid := ampora_bus.begin_life();
    name  text;
BEGIN
    FOREACH name IN ARRAY names LOOP
        INSERT INTO ampora_bus.streams AS s (stream, id, life) VALUES (name, gen_random_uuid(), alive)
        ON CONFLICT (stream) DO UPDATE SET id = excluded.id, life = excluded.life WHERE s.life <> excluded.life;
        IF FOUND THEN
            DELETE FROM ampora_bus.messages WHERE stream = name;
            DELETE FROM ampora_bus.floors WHERE stream = name;
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd

-- The streams of this life: the floors that count, and the number and total of the last message there ever was.
CREATE VIEW ampora_bus.states AS
    SELECT s.stream, s.id::text AS id, coalesce(f.forgotten, 0) AS forgotten, coalesce(f.base, 0) AS base, coalesce(f.total, 0) AS floor,
        coalesce(h.number, f.forgotten, 0) AS head, coalesce(h.total, f.total, 0) AS total
    FROM ampora_bus.streams s JOIN ampora_bus.life l ON l.id = s.life AND l.xmin = l.born::xid
    LEFT JOIN LATERAL (
        SELECT * FROM ampora_bus.floors WHERE stream = s.stream ORDER BY forgotten DESC, base DESC LIMIT 1) AS f ON true
    LEFT JOIN LATERAL (
        SELECT * FROM ampora_bus.messages WHERE stream = s.stream AND number > coalesce(f.forgotten, 0)
        ORDER BY number DESC LIMIT 1) AS h ON true;

-- lock_streams gives the caller's transaction the sole right to change streams, and its next statement sees what whoever
-- had that right before did. So numbers are given in the order of commits, and nobody reads past one that is still to
-- come. names are in order: two callers wait for each other, not for ever.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.lock_streams(names text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    locked integer;
BEGIN
    FOR attempt IN 1..3 LOOP
        SELECT count(*) INTO locked FROM (
            SELECT FROM ampora_bus.streams s, ampora_bus.life l
            WHERE s.stream = ANY (names) AND s.life = l.id AND l.xmin = l.born::xid
            ORDER BY s.stream FOR UPDATE OF s) AS held;
        IF locked = cardinality(names) THEN
            RETURN;
        END IF;
        PERFORM ampora_bus.begin_streams(names);
    END LOOP;
    RAISE EXCEPTION 'the bus was emptied meanwhile' USING ERRCODE = 'serialization_failure';
END
$$;
-- +goose StatementEnd

-- look returns what follows a position, as one moment shows it. lost is null if there is nothing to report. next is where
-- to go on: past a loss if nothing retained lies before its end.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.look(name text, INOUT id text, number bigint, most integer,
    OUT lost boolean, OUT next bigint, OUT numbers bigint[], OUT payloads bytea[])
    LANGUAGE plpgsql AS $$
DECLARE
    place text := id;
BEGIN
    FOR attempt IN 1..3 LOOP
        SELECT s.id, at.number IS NULL OR at.number < s.forgotten, m.numbers, m.payloads,
            CASE WHEN last.number < s.forgotten AND NOT EXISTS (
                SELECT FROM ampora_bus.messages r WHERE r.stream = name AND r.number > last.number AND r.number < s.forgotten)
            THEN s.forgotten ELSE last.number END
        INTO id, lost, numbers, payloads, next
        FROM ampora_bus.states s,
            LATERAL (SELECT CASE WHEN s.id = place AND look.number <= s.head THEN look.number END AS number) AS at,
            LATERAL (SELECT greatest(at.number, s.base) AS number) AS start,
            LATERAL (
                SELECT array_agg(r.number ORDER BY r.number) AS numbers, array_agg(r.payload ORDER BY r.number) AS payloads FROM (
                    SELECT q.number, q.payload FROM ampora_bus.messages q
                    WHERE q.stream = name AND q.number > start.number ORDER BY q.number LIMIT most) AS r) AS m,
            LATERAL (SELECT coalesce(m.numbers[cardinality(m.numbers)], start.number) AS number) AS last
        WHERE s.stream = name;
        IF FOUND THEN
            IF numbers IS NULL AND NOT lost THEN
                lost := NULL;
            END IF;
            RETURN;
        END IF;
        PERFORM ampora_bus.begin_streams(ARRAY[name]);
    END LOOP;
    RAISE EXCEPTION 'the bus was emptied meanwhile' USING ERRCODE = 'serialization_failure';
END
$$;
-- +goose StatementEnd

-- forget drops the messages of a gateway's stream that are at or before a number or out of time. The caller has locked
-- the stream.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.forget(name text, up_to bigint, at timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was ampora_bus.states;
    top bigint;
    low bigint;
BEGIN
    SELECT * INTO was FROM ampora_bus.states s WHERE s.stream = name;
    WITH gone AS (
        DELETE FROM ampora_bus.messages m
        WHERE m.stream = name AND m.number > was.base AND (m.number <= up_to OR m.expires <= at) RETURNING m.number)
    SELECT greatest(max(number), was.forgotten) INTO top FROM gone;
    SELECT min(m.number) - 1 INTO low FROM ampora_bus.messages m WHERE m.stream = name AND m.number > was.base;
    low := coalesce(low, was.head);
    IF top > was.forgotten OR low > was.base THEN
        INSERT INTO ampora_bus.floors (stream, forgotten, base, total) VALUES (name, top, low, 0);
        DELETE FROM ampora_bus.floors f WHERE f.stream = name AND f.forgotten = was.forgotten AND f.base = was.base;
    END IF;
END
$$;
-- +goose StatementEnd

-- The channel that rings for a gateway's downlinks.
CREATE FUNCTION ampora_bus.channel(gateway text) RETURNS text LANGUAGE sql IMMUTABLE
    RETURN 'ampora_bus_' || left(encode(sha256(convert_to(gateway, 'UTF8')), 'hex'), 32);

-- set_registers keeps the last of several values for one name, and goes by the names' order, as locks do.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.set_registers(of_shelf text, ttl bigint, names text[], contents bytea[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    alive   uuid := ampora_bus.begin_life();
    run_out timestamptz := clock_timestamp() + ttl * interval '1 microsecond';
BEGIN
    INSERT INTO ampora_bus.registers (shelf, name, life, expires, value)
    SELECT DISTINCT ON (g.name COLLATE "C") of_shelf, g.name, alive, run_out, g.value
    FROM unnest(names, contents) WITH ORDINALITY AS g(name, value, nth)
    ORDER BY g.name COLLATE "C", g.nth DESC
    ON CONFLICT (shelf, name) DO UPDATE SET life = excluded.life, expires = excluded.expires, value = excluded.value;
END
$$;
-- +goose StatementEnd

-- get_registers returns the values in the order of the names, null for an absent one.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.get_registers(of_shelf text, names text[]) RETURNS bytea[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT r.value FROM unnest(names) WITH ORDINALITY AS g(name, nth)
        LEFT JOIN ampora_bus.registers r ON r.shelf = of_shelf AND r.name = g.name
            AND r.life = (SELECT ampora_bus.alive()) AND r.expires > clock_timestamp()
        ORDER BY g.nth);
END
$$;
-- +goose StatementEnd

-- own_gateway returns the gateway that the login is admitted as, and refuses to be another.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.own_gateway(wanted text DEFAULT NULL) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    own text;
BEGIN
    SELECT l.gateway INTO own FROM ampora_bus.logins l WHERE l.login = session_user;
    IF own IS NULL THEN
        RAISE EXCEPTION 'the login % is not admitted as a gateway', session_user USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF own <> wanted THEN
        RAISE EXCEPTION 'the login % is the gateway %, not %', session_user, own, wanted USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN own;
END
$$;
-- +goose StatementEnd

-- For both roles.

-- enter begins every connection: it ends a life that began elsewhere, and says which gateway the login is and what rings
-- for it.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.enter(OUT gateway text, OUT channel text) LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    DELETE FROM ampora_bus.life WHERE place <> ampora_bus.place();
    SELECT l.gateway, ampora_bus.channel(l.gateway) INTO gateway, channel FROM ampora_bus.logins l WHERE l.login = session_user;
END
$$;
-- +goose StatementEnd

-- For ampora_bus_control.

-- read returns up to most messages of a partition after a position (see look).
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.read(partition integer, INOUT id text, number bigint, most integer,
    OUT lost boolean, OUT next bigint, OUT numbers bigint[], OUT payloads bytea[])
    LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    SELECT l.id, l.lost, l.next, l.numbers, l.payloads INTO id, lost, next, numbers, payloads
    FROM ampora_bus.look('up/' || partition, id, number, most) AS l;
END
$$;
-- +goose StatementEnd

-- trim forgets the messages of a partition at or before a position, if that is one of a message that is retained.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.trim(partition integer, id text, number bigint) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    name text := 'up/' || partition;
BEGIN
    PERFORM FROM ampora_bus.streams s WHERE s.stream = name AND s.id::text = trim.id FOR UPDATE;
    WITH upto AS (
        SELECT m.number, m.total, s.base FROM ampora_bus.states s JOIN ampora_bus.messages m ON m.stream = s.stream
        WHERE s.stream = name AND s.id = trim.id AND m.number = trim.number
    ), gone AS (
        DELETE FROM ampora_bus.messages m USING upto WHERE m.stream = name AND m.number > upto.base AND m.number <= upto.number
    ), former AS (
        DELETE FROM ampora_bus.floors f USING upto WHERE f.stream = name AND f.forgotten = upto.base AND f.base = upto.base)
    INSERT INTO ampora_bus.floors (stream, forgotten, base, total)
    SELECT name, upto.number, upto.number, upto.total FROM upto;
END
$$;
-- +goose StatementEnd

-- send appends to a gateway's downlinks as many payloads, from the first on, as there is room for, and says whether that
-- was all. ttl is in microseconds.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.send(gateway text, ttl bigint, payloads bytea[]) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    name     text := 'down/' || gateway;
    at       timestamptz;
    held     record;
    accepted integer;
BEGIN
    PERFORM ampora_bus.lock_streams(ARRAY[name]);
    at := clock_timestamp();
    SELECT s.head, m.* INTO held FROM ampora_bus.states s, LATERAL (
        SELECT count(*) FILTER (WHERE expires > at) AS messages, coalesce(sum(octet_length(payload)) FILTER (WHERE expires > at), 0) AS bytes,
            bool_or(expires <= at) AS expired
        FROM ampora_bus.messages WHERE stream = s.stream AND number > s.base) AS m
    WHERE s.stream = name;
    INSERT INTO ampora_bus.messages (stream, number, expires, payload)
    SELECT name, held.head + g.nth, at + ttl * interval '1 microsecond', g.payload
    FROM (SELECT u.payload, u.nth, sum(octet_length(u.payload)) OVER (ORDER BY u.nth) AS size
          FROM unnest(payloads) WITH ORDINALITY AS u(payload, nth)) AS g, ampora_bus.bounds b
    WHERE held.messages + g.nth <= b.messages AND held.bytes + g.size <= b.bytes;
    GET DIAGNOSTICS accepted = ROW_COUNT;
    IF held.expired THEN
        PERFORM ampora_bus.forget(name, 0, at);
    END IF;
    IF accepted > 0 THEN
        PERFORM pg_notify(ampora_bus.channel(gateway), '');
    END IF;
    RETURN accepted = cardinality(payloads);
END
$$;
-- +goose StatementEnd

-- post sets registers of the mail shelf. ttl is in microseconds.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.post(shelf text, ttl bigint, names text[], contents bytea[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF shelf <> 'mail' THEN
        RAISE EXCEPTION 'the control plane does not write on the shelf %', shelf USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM ampora_bus.set_registers(shelf, ttl, names, contents);
END
$$;
-- +goose StatementEnd

-- look_up reads registers of any shelf.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.look_up(shelf text, names text[]) RETURNS bytea[] LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    RETURN ampora_bus.get_registers(shelf, names);
END
$$;
-- +goose StatementEnd

-- sweep removes up to most registers that are out of time, and what is out of time in the streams of gateways that no
-- longer read. It returns how many registers that were.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.sweep(most integer) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    at    timestamptz := clock_timestamp();
    alive uuid := ampora_bus.begin_life();
    swept integer;
    name  text;
BEGIN
    DELETE FROM ampora_bus.registers WHERE ctid = ANY (ARRAY(
        SELECT r.ctid FROM ampora_bus.registers r WHERE r.expires <= at OR r.life <> alive LIMIT most FOR UPDATE SKIP LOCKED));
    GET DIAGNOSTICS swept = ROW_COUNT;
    FOR name IN
        SELECT t.stream FROM ampora_bus.streams t WHERE t.stream >= 'down/' AND t.stream < 'down0'
            AND EXISTS (SELECT FROM ampora_bus.messages m WHERE m.stream = t.stream AND m.expires <= at)
        ORDER BY t.stream
    LOOP
        PERFORM ampora_bus.lock_streams(ARRAY[name]);
        PERFORM ampora_bus.forget(name, 0, at);
    END LOOP;
    RETURN swept;
END
$$;
-- +goose StatementEnd

-- For ampora_bus_gateway.

-- publish appends to each partition as many of its payloads, from the first on, as there is room for, and says whether
-- that was all. One bell rings for all of them; it names the partitions.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.publish(partitions integer[], payloads bytea[]) RETURNS boolean LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    names    text[] := ARRAY(SELECT DISTINCT ('up/' || p) COLLATE "C" AS stream FROM unnest(partitions) AS p ORDER BY stream);
    accepted bigint;
    rung     text;
BEGIN
    PERFORM ampora_bus.own_gateway();
    IF (0 <= ALL (partitions) AND 64 > ALL (partitions) AND cardinality(partitions) = cardinality(payloads)) IS NOT TRUE
        OR array_position(payloads, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'a partition outside 0 to 63, or without a payload' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM ampora_bus.lock_streams(names);
    WITH given AS MATERIALIZED (
        SELECT 'up/' || u.partition AS stream, u.payload, row_number() OVER w AS nth, sum(octet_length(u.payload)) OVER w AS size
        FROM unnest(partitions, payloads) WITH ORDINALITY AS u(partition, payload, place)
        WINDOW w AS (PARTITION BY u.partition ORDER BY u.place)
    ), held AS MATERIALIZED (
        SELECT s.* FROM ampora_bus.states s WHERE s.stream = ANY (names)
    ), stored AS (
        INSERT INTO ampora_bus.messages (stream, number, total, payload)
        SELECT h.stream, h.head + g.nth, h.total + g.size, g.payload
        FROM given g JOIN held h USING (stream), ampora_bus.bounds b
        WHERE h.head - h.base + g.nth <= b.messages AND h.total - h.floor + g.size <= b.bytes
        RETURNING stream)
    SELECT count(*), string_agg(DISTINCT substr(stream, 4), ',') INTO accepted, rung FROM stored;
    IF accepted > 0 THEN
        PERFORM pg_notify('ampora_bus_uplinks', rung);
    END IF;
    RETURN accepted = cardinality(partitions);
END
$$;
-- +goose StatementEnd

-- receive takes the receipt for a gateway's downlinks up to a position, and returns up to most that follow (see look).
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.receive(gateway text, INOUT id text, number bigint, most integer,
    OUT lost boolean, OUT next bigint, OUT numbers bigint[], OUT payloads bytea[])
    LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    name  text := 'down/' || ampora_bus.own_gateway(gateway);
    at    timestamptz := clock_timestamp();
    up_to bigint;
BEGIN
    -- Only who finds something to forget locks.
    SELECT CASE WHEN s.id = receive.id AND number <= s.head THEN number ELSE 0 END INTO up_to FROM ampora_bus.states s
    WHERE s.stream = name;
    IF EXISTS (SELECT FROM ampora_bus.messages m JOIN ampora_bus.states s USING (stream)
               WHERE s.stream = name AND m.number > s.base AND (m.number <= up_to OR m.expires <= at)) THEN
        PERFORM ampora_bus.lock_streams(ARRAY[name]);
        PERFORM ampora_bus.forget(name, up_to, at);
    END IF;
    SELECT l.id, l.lost, l.next, l.numbers, l.payloads INTO id, lost, next, numbers, payloads
    FROM ampora_bus.look(name, id, number, most) AS l;
END
$$;
-- +goose StatementEnd

-- note sets registers of the polls, or of the gateway's own marks. ttl is in microseconds.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.note(shelf text, ttl bigint, names text[], contents bytea[]) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    own text := 'marks/' || ampora_bus.own_gateway();
BEGIN
    IF shelf NOT IN ('polls', own) THEN
        RAISE EXCEPTION 'the login % does not write on the shelf %', session_user, shelf USING ERRCODE = 'insufficient_privilege';
    END IF;
    PERFORM ampora_bus.set_registers(shelf, ttl, names, contents);
END
$$;
-- +goose StatementEnd

-- consult reads registers of the polls, the mail, or the gateway's own marks.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.consult(shelf text, names text[]) RETURNS bytea[] LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    own text := 'marks/' || ampora_bus.own_gateway();
BEGIN
    IF shelf NOT IN ('polls', 'mail', own) THEN
        RAISE EXCEPTION 'the login % does not read the shelf %', session_user, shelf USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN ampora_bus.get_registers(shelf, names);
END
$$;
-- +goose StatementEnd

-- For the owner of the schema.

-- admit lets a login act as a gateway, and refuses one that can do anything besides. Two logins may be the same gateway,
-- while a password is replaced. From then on only the database's owner, who alone can take that right from others, may
-- make temporary tables.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.admit(login text, gateway text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = login AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolreplication))
        OR EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member
                   WHERE r.rolname = login AND m.roleid <> 'ampora_bus_gateway'::regrole) THEN
        RAISE EXCEPTION 'the login % has rights or memberships of other kinds; a gateway needs one that has none', login
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    EXECUTE format('REVOKE CREATE, TEMPORARY ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('GRANT ampora_bus_gateway TO %I WITH INHERIT FALSE, SET TRUE', login);
    INSERT INTO ampora_bus.logins (login, gateway) VALUES (admit.login, admit.gateway)
    ON CONFLICT ON CONSTRAINT logins_pkey DO UPDATE SET gateway = excluded.gateway;
END
$$;
-- +goose StatementEnd

-- dismiss takes the bus from a login, from its next call on.
-- +goose StatementBegin
CREATE FUNCTION ampora_bus.dismiss(login text) RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    DELETE FROM ampora_bus.logins l WHERE l.login = dismiss.login;
    EXECUTE format('REVOKE ampora_bus_gateway FROM %I', login);
END
$$;
-- +goose StatementEnd

-- Privileges: functions, and nothing else. Those that act with the owner's rights find names in pg_catalog alone, wait
-- for no lock for ever, and go by indexes: statistics of tables that are empty now and then are no help.
-- +goose StatementBegin
DO $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'ampora_bus'::regnamespace LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', f);
    END LOOP;
    FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'ampora_bus'::regnamespace AND prosecdef LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = pg_catalog, pg_temp', f);
        EXECUTE format('ALTER FUNCTION %s SET lock_timeout = 5000', f);
        EXECUTE format('ALTER FUNCTION %s SET enable_seqscan = off', f);
        EXECUTE format('ALTER FUNCTION %s SET enable_bitmapscan = off', f);
    END LOOP;
END
$$;
-- +goose StatementEnd
GRANT USAGE ON SCHEMA ampora_bus TO ampora_bus_control, ampora_bus_gateway;
GRANT EXECUTE ON FUNCTION ampora_bus.enter TO ampora_bus_control, ampora_bus_gateway;
GRANT EXECUTE ON FUNCTION ampora_bus.read, ampora_bus.trim, ampora_bus.send, ampora_bus.post, ampora_bus.look_up, ampora_bus.sweep
    TO ampora_bus_control;
GRANT EXECUTE ON FUNCTION ampora_bus.publish, ampora_bus.receive, ampora_bus.note, ampora_bus.consult TO ampora_bus_gateway;

-- The list of migrations is for every login but those of gateways.
ALTER TABLE ampora_migrations ENABLE ROW LEVEL SECURITY;
CREATE POLICY not_gateways ON ampora_migrations USING (NOT pg_has_role(session_user, 'ampora_bus_gateway', 'MEMBER'));
