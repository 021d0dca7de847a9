// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/open-telemetry/opamp-go/protobufs"

	"gitlab.com/ampora/ampora/loadtest/rawopamp"
	"gitlab.com/ampora/ampora/loadtest/rig"
	amporav1 "gitlab.com/ampora/ampora/proto/gen/ampora/v1"
)

func configNotYAML(b *bad) {
	unchanged := b.unchanged()
	for name, body := range map[string]string{"CONFIG_NOT_YAML": "receivers: {]\n", "CONFIG_NOT_A_MAPPING": "- one\n- two\n"} {
		got := b.s.CLI("configs", "create", "refused", "-f", file(b.T, b.s, name, body))
		if got.Code != b.exit() || !strings.Contains(got.Stderr, name) || !strings.Contains(got.Stderr, "line 1") {
			b.Errorf("exit code %d, want %d, %s and the line: %s", got.Code, b.exit(), name, got.Stderr)
		}
		if !b.s.Logged("call failed", name) {
			b.Errorf("the log does not say %s", name)
		}
	}
	if n := b.s.Database.Count(b, "SELECT count(*) FROM configs WHERE name = 'refused'"); n != 0 {
		b.Errorf("%d configurations are stored", n)
	}
	unchanged(0)
}

// behindProxy is an installation whose database can be cut off. It does not run yet.
func (b *bad) behindProxy() (*rig.Server, *rig.Proxy) {
	b.Helper()
	s := rig.NewServer(b, rig.Production)
	proxy, url := rig.Through(b, s.Database.URL)
	s.Env["AMPORA_DATABASE_URL"] = strings.Replace(url, "@", ":hunter2@", 1) // a password, which nobody asks for
	return s, proxy
}

func dbAwayAtStart(b *bad) {
	patient, proxy := b.behindProxy()
	patient.Env["AMPORA_DATABASE_WAIT"] = "60s"
	patient.Launch()
	rig.Await(b, "the program to say that it waits", func() string {
		return unless(patient.Logged("the database cannot be reached"), "it does not")
	})
	if patient.Ready() {
		b.Error("it is ready without a database")
	}
	proxy.Join()
	patient.AwaitReady()
	if said := strings.Count(patient.Process().Log(), "the database cannot be reached"); said != 1 {
		b.Errorf("it said %d times that it waits", said)
	}

	hasty, _ := b.behindProxy()
	hasty.Env["AMPORA_DATABASE_WAIT"] = "1s"
	if code := hasty.Launch().Exit(rig.Patience); code != b.exit() {
		b.Errorf("exit code %d, want %d", code, b.exit())
	}
	if log := hasty.Process().Log(); !strings.Contains(log, "ampora: ") || strings.Contains(log, "hunter2") {
		b.Errorf("its last words have no sentence, or the password:\n%s", log)
	}
}

func dbAwayInFlight(b *bad) {
	s, proxy := b.behindProxy()
	proxy.Join()
	b.s = s.Start()
	_, conn, uid, id := b.known()
	_, later, _ := b.enrolled()
	token := s.Issue().GetSecret()

	proxy.Cut()
	if got := s.CLI("agents", "list"); got.Code != b.exit() || !strings.Contains(got.Stderr, "UNAVAILABLE") {
		b.Errorf("amporactl: exit code %d, want %d: %s", got.Code, b.exit(), got.Stderr)
	}
	rig.Await(b, "readiness to be lost", func() string { return unless(!s.Ready(), "it is ready") })
	changed := rawopamp.Beat(uid, 1)
	changed.Health = &protobufs.ComponentHealth{Healthy: false, Status: "while the database was away"}
	if answer, err := conn.Exchange(changed, answerTime); err != nil || answer.GetErrorResponse() != nil {
		b.Errorf("a report was answered %v, %v", answer, err)
	}
	b.turnedAway(later)
	_, err := b.stranger().Bearing(token).Dial(b.Context())
	b.refused(err, 503)

	proxy.Join()
	s.AwaitReady()
	b.healthIs(id, "while the database was away")
	if _, err := conn.Exchange(rawopamp.Beat(uid, 2), answerTime); err != nil {
		b.Errorf("the session was lost: %v", err)
	}
	if certificate, err := b.stranger().Enrol(b.Context(), token); err != nil || certificate == nil {
		b.Errorf("the token was lost: %v", err)
	}
}

// turnedAway: an agent that comes while nobody can claim its session is told to come
// again, at the upgrade or after it.
func (b *bad) turnedAway(peer rawopamp.Peer) {
	b.Helper()
	conn, err := peer.Dial(b.Context())
	if err != nil {
		b.refused(err, 503)
		return
	}
	defer conn.Close()
	answer, err := conn.Exchange(rawopamp.Hello(rawopamp.NewUID(), "later"), answerTime)
	if err != nil || answer.GetErrorResponse().GetType() != protobufs.ServerErrorResponseType_ServerErrorResponseType_Unavailable {
		b.Errorf("the first message was answered %v, %v, want UNAVAILABLE", answer, err)
		return
	}
	b.closes(conn, b.close())
}

// diskFull gives ampora a small file system of its own, in a mount name space that ends
// with it.
func diskFull(b *bad) {
	s := rig.NewServer(b, rig.Development)
	data := s.Env["AMPORA_DATA_DIR"]
	s.Wrapper = []string{"unshare", "--mount", "sh", "-c", `mount -t tmpfs -o size=8m tmpfs "$AMPORA_DATA_DIR" && cd "$AMPORA_DATA_DIR" && exec "$0"`}
	if os.Geteuid() != 0 {
		s.Wrapper = append([]string{"unshare", "--map-root-user"}, s.Wrapper[1:]...)
	}
	s.CAFile = "" // in there, and not needed
	s.Start()
	var stored int
	for ; stored < 20; stored++ {
		if got := s.CLI("configs", "create", fmt.Sprintf("big-%d", stored), "-f", mebibyte(b, s, stored)); got.Code != 0 {
			b.fullAnswer(s, got)
			break
		}
	}
	if stored == 0 || stored == 20 {
		b.Fatalf("%d configurations of 1 MiB went into 8 MiB", stored)
	}
	list := func() int {
		configs := new(amporav1.ListConfigsResponse)
		s.Get(configs, "configs", "list")
		return len(configs.GetConfigs())
	}
	if n := list(); n != stored {
		b.Errorf("%d configurations are there, %d were taken", n, stored)
	}
	grow := []string{"--target", fmt.Sprint(s.Process().PID()), "--mount", "mount", "-o", "remount,size=64m", data}
	if os.Geteuid() != 0 {
		grow = append([]string{"--user", "--preserve-credentials"}, grow...)
	}
	if out, err := exec.CommandContext(b.Context(), "nsenter", grow...).CombinedOutput(); err != nil {
		b.Fatalf("grow the file system: %v: %s", err, out)
	}
	s.Do("configs", "create", "after", "-f", mebibyte(b, s, stored))
	if n := list(); n != stored+1 {
		b.Errorf("%d configurations are there, want %d", n, stored+1)
	}
}

// mebibyte is a file of that size, another one for each n: equal bodies are stored once.
func mebibyte(b *bad, s *rig.Server, n int) string {
	b.Helper()
	return file(b.T, s, "big.yaml", fmt.Sprintf("n: %d\nbig: %s\n", n, strings.Repeat("x", 1<<20)))
}

func (b *bad) fullAnswer(s *rig.Server, got rig.Result) {
	b.Helper()
	if got.Code != 6 {
		b.Errorf("amporactl: exit code %d, want 6: %s", got.Code, got.Stderr)
	}
	select {
	case <-s.Process().Exited():
		b.Fatal("ampora ended")
	default:
	}
}

func migrateTwiceAtOnce(b *bad) {
	database := rig.SQLite(b.TempDir())
	if b.flavour == rig.Production {
		database = rig.PostgreSQL(b)
	}
	const processes = 4
	results := make([]rig.Result, processes)
	var all sync.WaitGroup
	for i := range results {
		all.Go(func() { results[i] = b.s.Control(database.Owner, "migrate", "up") })
	}
	all.Wait()
	applied := 0
	for _, got := range results {
		if got.Code != b.exitOf("both exit `0`") {
			b.Errorf("exit code %d: %s", got.Code, got.Stderr)
		}
		if strings.Contains(got.Stdout, "applied") {
			applied++
		} else if !strings.Contains(got.Stdout, "up to date") {
			b.Errorf("it says: %s", got.Stdout)
		}
	}
	if applied != 1 {
		b.Errorf("%d of %d processes say that they applied migrations", applied, processes)
	}
	rows := database.Count(b, "SELECT count(*) FROM ampora_migrations WHERE version_id > 0")
	versions := database.Count(b, "SELECT count(DISTINCT version_id) FROM ampora_migrations WHERE version_id > 0")
	if files := migrationFiles(b); rows != files || versions != files {
		b.Errorf("%d rows for %d versions, there are %d migrations", rows, versions, files)
	}
}

// exitOf takes an exit code out of words that must stand in the table.
func (b *bad) exitOf(words string) int {
	b.Helper()
	if !strings.Contains(b.row.sees, words) {
		b.Fatalf("the table does not say %q", words)
	}
	return b.exit()
}

func migrationFiles(b *bad) int {
	b.Helper()
	folder := map[rig.Flavour]string{rig.Development: "sqlite", rig.Production: "postgres"}[b.flavour]
	files, err := filepath.Glob(filepath.Join(rig.Root(b), "migrations", folder, "*.sql"))
	if err != nil {
		b.Fatal(err)
	}
	return len(files)
}

func schemaNewer(b *bad) {
	s := rig.NewServer(b, b.flavour).Start()
	if code := s.Stop(); code != 0 {
		b.Fatalf("ampora stopped with %d", code)
	}
	s.Database.Exec(b, "INSERT INTO ampora_migrations (version_id, is_applied) VALUES (9999, "+map[rig.Flavour]string{rig.Development: "1", rig.Production: "true"}[b.flavour]+")")
	rows := s.Database.Count(b, "SELECT count(*) FROM ampora_migrations")
	if code := s.Launch().Exit(rig.Patience); code != b.exit() {
		b.Errorf("exit code %d, want %d", code, b.exit())
	}
	last := s.Process().Log()
	if !strings.Contains(last, "9999") {
		b.Errorf("its last words do not name the schema:\n%s", last)
	}
	status := s.Control(s.Database.Owner, "migrate", "status")
	if status.Code != 3 || !strings.Contains(status.Stderr, "9999") {
		b.Errorf("migrate status: %d: %s", status.Code, status.Stderr)
	}
	if up := s.Control(s.Database.Owner, "migrate", "up"); up.Code == 0 {
		b.Errorf("migrate up takes a schema of the future: %s", up.Stdout)
	}
	if now := s.Database.Count(b, "SELECT count(*) FROM ampora_migrations"); now != rows {
		b.Errorf("rows of migrations were %d and are %d", rows, now)
	}
}

// crowd is how many agents are connected and talking when SIGTERM comes.
const crowd = 200

func sigtermUnderLoad(b *bad) {
	s := rig.NewServer(b, b.flavour)
	s.Env["AMPORA_DRAIN_DURATION"] = "3s"
	b.s = s.Start()
	members := b.crowd()
	rig.Await(b, "all sessions to be there", func() string {
		if n := s.Database.Count(b, "SELECT count(*) FROM agents WHERE ended_at IS NULL AND epoch > 0"); n != crowd {
			return fmt.Sprintf("there are %d", n)
		}
		return ""
	})
	ends := make(chan string, crowd)
	for _, member := range members {
		go func() { ends <- member.chatter() }()
	}
	begin := time.Now()
	s.Process().Signal(syscall.SIGTERM)
	if code := s.Process().Exit(rig.Patience); code != b.exit() {
		b.Errorf("exit code %d, want %d", code, b.exit())
	}
	if took := time.Since(begin); took > 20*time.Second {
		b.Errorf("it took %s", took)
	}
	counts := map[string]int{}
	for range crowd {
		counts[<-ends]++
	}
	if want := fmt.Sprintf("close %d", b.close()); counts[want] != crowd {
		b.Errorf("the ends were %v, want %d times %s", counts, crowd, want)
	}
	s.Start()
	if n := s.Database.Count(b, "SELECT count(*) FROM agents WHERE ended_at IS NOT NULL AND end_reason = '"+b.endReason()+"'"); n != crowd {
		b.Errorf("%d of %d sessions are recorded as drained", n, crowd)
	}
	if n := s.Database.Count(b, "SELECT count(*) FROM agents"); n != crowd {
		b.Errorf("%d agents are stored, %d were enrolled", n, crowd)
	}
}

// endReason is the word for it in the table.
func (b *bad) endReason() string {
	b.Helper()
	if !strings.Contains(b.row.stored, "`DRAINED`") {
		b.Fatal("the table does not say DRAINED")
	}
	return "DRAINED"
}

// member is one of the crowd.
type member struct {
	conn *rawopamp.Conn
	uid  []byte
}

// crowd enrols and connects many agents, some at a time.
func (b *bad) crowd() []member {
	b.Helper()
	members := make([]member, crowd)
	var all sync.WaitGroup
	gate := make(chan struct{}, 8)
	for i := range members {
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			var err error
			if members[i], err = b.join(); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	b.Cleanup(func() {
		for _, member := range members {
			if member.conn != nil {
				_ = member.conn.Close()
			}
		}
	})
	if b.Failed() {
		b.FailNow()
	}
	return members
}

// join enrols and connects one agent.
func (b *bad) join() (member, error) {
	issued := b.s.CLI("tokens", "issue")
	if issued.Code != 0 {
		return member{}, fmt.Errorf("tokens issue: %s", issued.Stderr)
	}
	peer := b.s.Stranger()
	certificate, err := peer.Enrol(b.Context(), strings.TrimSpace(issued.Stdout))
	if err != nil {
		return member{}, err
	}
	m := member{uid: rawopamp.NewUID()}
	if m.conn, err = peer.With(certificate).Dial(b.Context()); err != nil {
		return member{}, err
	}
	_, err = m.conn.Exchange(rawopamp.Hello(m.uid, "one-of-many"), answerTime)
	return m, err
}

// chatter talks until the connection ends, and says how it ended.
func (m member) chatter() string {
	for sequence := uint64(1); ; sequence++ {
		_ = m.conn.Send(rawopamp.Beat(m.uid, sequence)) // how it ended is read
		_, err := m.conn.Receive(answerTime)
		if closed, ok := errors.AsType[*rawopamp.CloseError](err); ok {
			return fmt.Sprintf("close %d", closed.Code)
		}
		if err != nil {
			return err.Error()
		}
		time.Sleep(200 * time.Millisecond) // the pace of the load
	}
}
