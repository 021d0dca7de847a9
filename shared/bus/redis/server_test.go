// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

package redis

import (
	"context"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"gitlab.com/ampora/ampora/shared/identity"
)

// patience bounds every wait of these tests. It is a limit, never a delay.
const patience = 30 * time.Second

// server is a redis-server of a test. It listens on a socket in its folder; who wants to
// reach it goes through a link, which stays where it is when servers change.
type server struct {
	t      testing.TB
	folder string
	flags  []string
	admin  *goredis.Client
	done   chan struct{} // closed when the process has ended
	cancel context.CancelFunc
	users  []string // as arguments of ACL SETUSER, one user a line
}

// startServer starts a redis-server without persistence, or as the flags say.
func startServer(t testing.TB, flags ...string) *server {
	t.Helper()
	goredis.SetLogger(silence{})
	folder, err := os.MkdirTemp("", "redis") //nolint:usetesting // that of t may be too deep for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, folder: folder, flags: flags}
	s.admin = goredis.NewClient(&goredis.Options{Network: "unix", Addr: s.socket(), MaxRetries: -1, DialerRetries: 1})
	t.Cleanup(func() {
		s.kill()
		_ = s.admin.Close()
		_ = os.RemoveAll(folder)
	})
	s.start()
	return s
}

func (s *server) socket() string { return filepath.Join(s.folder, "socket") }

// program finds redis-server where infra/dev/services.sh does.
func program(t testing.TB) string {
	t.Helper()
	name := os.Getenv("REDIS_BIN")
	if name == "" {
		name = "redis-server"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("these tests need redis-server: infra/dev/tools.sh redis-server installs it, REDIS_BIN names another: %v", err)
	}
	return path
}

func (s *server) start() {
	s.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	arguments := append([]string{
		"--port", "0", "--unixsocket", s.socket(), "--dir", s.folder, "--save", "", "--logfile", "log",
		"--repl-diskless-sync-delay", "0", "--repl-diskless-load", "swapdb", "--repl-timeout", "5",
	}, s.flags...)
	command := exec.CommandContext(ctx, program(s.t), arguments...)
	if err := command.Start(); err != nil {
		s.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = command.Wait()
		close(done)
	}()
	s.cancel, s.done = cancel, done
	s.wait("start", s.answers)
	for _, user := range s.users {
		s.setUser(user)
	}
}

// answers says whether the server is there and has loaded what it had. The client of the
// administrator would ask seldom after a few failures.
func (s *server) answers() bool {
	conn, err := net.Dial("unix", s.socket())
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	answer := make([]byte, len("+PONG\r\n"))
	_, _ = io.WriteString(conn, "PING\r\n")
	_, err = io.ReadFull(conn, answer)
	return err == nil && string(answer) == "+PONG\r\n"
}

// kill ends the process as a power cut does.
func (s *server) kill() {
	s.cancel()
	<-s.done
}

func (s *server) wait(what string, done func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.folder, "log"))
			s.t.Fatalf("redis-server does not %s:\n%s", what, log)
		}
	}
}

// do executes a command as the administrator and returns the answer.
func (s *server) do(arguments ...any) any {
	s.t.Helper()
	answer, err := s.admin.Do(context.Background(), arguments...).Result()
	if err != nil {
		s.t.Fatalf("%v: %v", arguments, err)
	}
	return answer
}

// try executes a command that the server may refuse.
func (s *server) try(arguments ...any) { _ = s.admin.Do(context.Background(), arguments...).Err() }

// addUser makes a user that is there after each start.
func (s *server) addUser(name string, rules []string) {
	s.t.Helper()
	user := strings.Join(append([]string{name, "reset", "on", ">" + knock}, rules...), "\n")
	s.users = append(s.users, user)
	s.setUser(user)
}

func (s *server) setUser(user string) {
	s.t.Helper()
	arguments := []any{"ACL", "SETUSER"}
	for argument := range strings.SplitSeq(user, "\n") {
		arguments = append(arguments, argument)
	}
	s.do(arguments...)
}

// knock is what all users say to be let in.
const knock = "tell:n0b@dy/?#"

// link is an address that leads to a server, or to another one later, or nowhere.
type link struct {
	t        testing.TB
	listener net.Listener

	mu      sync.Mutex
	resumed *sync.Cond
	stalled bool
	target  string
	conns   map[net.Conn]net.Conn // by the client's end
}

func newLink(t testing.TB, to *server) *link {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveLink(t, to, listener)
}

func serveLink(t testing.TB, to *server, listener net.Listener) *link {
	t.Helper()
	l := &link{t: t, listener: listener, target: to.socket(), conns: make(map[net.Conn]net.Conn)}
	l.resumed = sync.NewCond(&l.mu)
	go l.serve()
	t.Cleanup(func() {
		_ = listener.Close()
		l.resume()
		l.cut()
	})
	return l
}

// url is that of the link for a user; "" is the one without a password.
func (l *link) url(user string) string {
	if user == "" {
		return "redis://" + l.listener.Addr().String()
	}
	u := url.URL{Scheme: "redis", User: url.UserPassword(user, knock), Host: l.listener.Addr().String(), Path: "/0"}
	return u.String()
}

func (l *link) serve() {
	for {
		client, err := l.listener.Accept()
		if err != nil {
			return
		}
		go l.connect(client)
	}
}

func (l *link) connect(client net.Conn) {
	l.mu.Lock()
	for l.stalled {
		l.resumed.Wait()
	}
	conn, err := net.Dial("unix", l.target)
	if err != nil {
		l.mu.Unlock()
		_ = client.Close()
		return
	}
	l.conns[client] = conn
	l.mu.Unlock()
	go l.pump(client, conn)
	l.pump(conn, client)
	l.mu.Lock()
	delete(l.conns, client)
	l.mu.Unlock()
}

func (l *link) pump(to, from net.Conn) {
	defer end(to, from)
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		l.mu.Lock()
		for l.stalled {
			l.resumed.Wait()
		}
		l.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// stall lets nothing pass until resume.
func (l *link) stall() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stalled = true
}

func (l *link) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stalled = false
	l.resumed.Broadcast()
}

// cut ends all connections.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for client, conn := range l.conns {
		end(client, conn)
	}
}

// end ends connections for their other ends at once. Close alone waits for who reads.
func end(conns ...net.Conn) {
	for _, conn := range conns {
		if half, is := conn.(interface{ CloseWrite() error }); is {
			_ = half.CloseWrite()
		}
		_ = conn.Close()
	}
}

// lead makes the link lead to another server, for new connections.
func (l *link) lead(to *server) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.target = to.socket()
}

// users of the conformance suite: the control plane and the gateways it names.
const controlUser = "control"

var gatewayUsers = []identity.GatewayID{"one", "other", "gateway", "never sent to"}

func userOf(gateway identity.GatewayID) string { return "gateway-" + escape(string(gateway)) }

// addUsers makes the users of an installation, confined by the rules of this package.
func (s *server) addUsers(prefix string) {
	s.t.Helper()
	rules, err := ControlRules(prefix)
	if err != nil {
		s.t.Fatal(err)
	}
	s.addUser(prefix+controlUser, rules)
	for _, gateway := range gatewayUsers {
		if rules, err = GatewayRules(prefix, gateway); err != nil {
			s.t.Fatal(err)
		}
		s.addUser(prefix+userOf(gateway), rules)
	}
}

// address is what the link listens at.
func (l *link) address() (host, port string) {
	host, port, err := net.SplitHostPort(l.listener.Addr().String())
	if err != nil {
		l.t.Fatal(err)
	}
	return host, port
}
