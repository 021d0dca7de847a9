// Copyright The Ampora Authors
// SPDX-License-Identifier: Apache-2.0

// Package store is the contract between Ampora and its database: PostgreSQL in store/postgres, SQLite in
// store/sqlite, both held to the suite in store/storetest. What they decide, tell, page through and keep alike is
// written once, in store/verdict, store/trail, store/keyset and store/column.
//
// Every method is one transaction: all of it happens or nothing, and with any error but ErrUnknown nothing. A method
// that changes something on behalf of somebody takes a fleet.By and writes its audit event in that transaction. Writes
// are guarded: they name the state they expect, and a write that finds another fails with ErrConflict and changes
// nothing. Methods are safe for concurrent use, over several processes too. Time is an argument; no store reads a clock
// for what it writes.
//
// Every method but those that find a tenant by a secret's hash works inside one tenant: rows of another are not found,
// however they are asked for.
package store

import (
	"context"
	"errors"
	"time"

	"gitlab.com/ampora/ampora/control/internal/fleet"
)

// Sentinels. Driver errors die in the store; these leave it, wrapped with what they are about.
var (
	// ErrNotFound: no such row in this tenant.
	ErrNotFound = errors.New("not found")
	// ErrExists: the name or id is taken.
	ErrExists = errors.New("already exists")
	// ErrConflict: a guarded write found another state than it expected. Read again and decide anew.
	ErrConflict = errors.New("changed meanwhile")
	// ErrState: the entity's state does not allow it, and reading again will not help.
	ErrState = errors.New("not in a state that allows this")
	// ErrDynamic: the group chooses its members itself, or it does not and is asked to.
	ErrDynamic = errors.New("of a group that is dynamic, or is not")
	// ErrLimit: more agents than the caller's limit would change.
	ErrLimit = errors.New("more agents than may change at once")
	// ErrTooMany: more agents are selected than one act may be about.
	ErrTooMany = errors.New("too many agents")
	// ErrLeaseLost: a lease is no longer held; nothing was written.
	ErrLeaseLost = errors.New("lease lost")
	// ErrUnavailable: the database cannot be reached or has no room; nothing was written. Worth trying again.
	ErrUnavailable = errors.New("database unavailable")
	// ErrContended: other transactions were in the way, several times over; nothing was written, and what was expected may
	// still be so. Worth trying again.
	ErrContended = errors.New("others were in the way")
	// ErrUnknown: the answer to a commit was lost. Nobody knows whether it was written; doing it again is for the caller
	// to decide.
	ErrUnknown = errors.New("not known whether it was written")
)

// Store is everything. Callers ask for the smallest part they need.
type Store interface {
	Installation
	Access
	Enrolment
	TokenPools
	Certificates
	Upkeep
	RevocationLists
	Responders
	Restoration
	Fleet
	Bulk
	Groups
	Grouping
	Configs
	ConfigRules
	Rollouts
	Bodies
	Sessions
	Gateways
	Replicas
	Inbox
	Work
	Outbox
	Events
	SigningKeys
	Envelopes
	Queues
	Drift
	Rollouts

	// Ping fails with ErrUnavailable while the database cannot be used.
	Ping(ctx context.Context) error
	// Backend is "postgres" or "sqlite".
	Backend() string
	// Pool says how its connections are used; it asks no database.
	Pool() Pool
	Close() error
}

// Pool is how the connections of a store are used.
type Pool struct {
	Max, Used, Idle int
	// Waits is how often somebody had to wait for a connection since the start, and Waited for how long altogether.
	Waits  int64
	Waited time.Duration
}

// Installation keeps what is decided once and the tenants.
type Installation interface {
	// FixSetting stores value under name if the name is new, and returns what is stored: the first writer wins, over
	// all processes.
	FixSetting(ctx context.Context, name string, value []byte) ([]byte, error)
	// PutSetting stores value under name, over what was there: the last writer wins.
	PutSetting(ctx context.Context, name string, value []byte) error
	// Setting returns what is stored under name. ErrNotFound.
	Setting(ctx context.Context, name string) ([]byte, error)
	// EnsureTenant creates the tenant if it is new and returns the stored one.
	EnsureTenant(ctx context.Context, t fleet.Tenant) (fleet.Tenant, error)
	// Tenant returns one tenant. ErrNotFound.
	Tenant(ctx context.Context, id fleet.TenantID) (fleet.Tenant, error)
	// Tenants returns all tenants by id.
	Tenants(ctx context.Context) ([]fleet.Tenant, error)
}

// Access keeps API tokens and the audit log.
type Access interface {
	// CreateAPIToken stores the token of by.Tenant. ErrExists if a live token has the name.
	CreateAPIToken(ctx context.Context, by fleet.By, t fleet.APIToken) error
	// APITokenByHash finds a token of any tenant and any state. ErrNotFound.
	APITokenByHash(ctx context.Context, hash [32]byte) (fleet.APIToken, error)
	// APITokens lists newest first; next is empty at the end.
	APITokens(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (list []fleet.APIToken, next string, err error)
	// RevokeAPIToken revokes a live token. ErrNotFound; ErrState if it is not live at by.At.
	RevokeAPIToken(ctx context.Context, by fleet.By, id fleet.TokenID) (fleet.APIToken, error)

	// RecordAudit writes an event for something that changed nothing else in the database, such as a reveal.
	RecordAudit(ctx context.Context, by fleet.By, action, entityKind, entityID string) error
	// RecordRefusal counts a refusal under its actor, action, reason, entity and hour.
	RecordRefusal(ctx context.Context, r fleet.Refusal) error
	// AuditRecords lists newest first, events and refusals together; entity narrows to one id if not empty.
	AuditRecords(ctx context.Context, tenant fleet.TenantID, entity string, page fleet.Page) (list []fleet.AuditRecord, next string, err error)
}

// Enrolment keeps bootstrap tokens, and turns them into identities.
type Enrolment interface {
	// IssueBootstrapToken stores the token. ErrNotFound if its group or the identity that it is for is none, ErrDynamic if the
	// group chooses its members itself.
	IssueBootstrapToken(ctx context.Context, by fleet.By, t fleet.BootstrapToken) error
	// BootstrapTokensByHash finds tokens of any tenants and any state. A hash that is none's is not in the map.
	BootstrapTokensByHash(ctx context.Context, hashes ...[32]byte) (map[[32]byte]fleet.BootstrapToken, error)
	// BootstrapTokens lists newest first.
	BootstrapTokens(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (list []fleet.BootstrapToken, next string, err error)
	// RevokeBootstrapToken revokes a live token. ErrNotFound; ErrState if it is not live at by.At.
	RevokeBootstrapToken(ctx context.Context, by fleet.By, id fleet.TokenID) (fleet.BootstrapToken, error)
	// SweepBootstrapTokens deletes up to max tokens that enrolled nobody and whose life ended before the time given, of all
	// tenants, and says how many that were.
	SweepBootstrapTokens(ctx context.Context, before time.Time, max int) (int, error)

	// Redeem consumes tokens and records for each identity, certificate, group membership, tags, audit and event, all or nothing.
	// The results are in order, and each redemption stands for itself: nil if it was done. A token must be live at its By.At,
	// and for no identity: ErrNotFound, ErrState, and ErrConflict if it is redeemed; of two that redeem one token, exactly one
	// succeeds.
	Redeem(ctx context.Context, list []Redemption) []error

	// Returnable says why the identity may not come back by a token, as it stands; empty if it may. ErrNotFound.
	Returnable(ctx context.Context, r fleet.Return) (reason string, err error)
	// Return consumes a token that is for the identity r.Agent and gives that the certificate, with audit and event. What was
	// good of the others is revoked as by RevokeCertificates: all where the token replaces, else those that were offered in
	// vain. Group, assignments and all else stay.
	// A reason other than empty is why the identity may not come back; then nothing is written. Errors are those of Redeem,
	// and ErrState if the token is for another one; of two that redeem one token, exactly one succeeds.
	Return(ctx context.Context, r Redemption) (reason string, err error)
}

// TokenPools keeps pools of bootstrap tokens.
type TokenPools interface {
	// CreateTokenPool stores a pool. ErrExists if one that is not deleted has the name; ErrNotFound if its group is none,
	// ErrDynamic if that chooses its members itself.
	CreateTokenPool(ctx context.Context, by fleet.By, p fleet.TokenPool) (fleet.TokenPool, error)
	// TokenPool finds by id or name one that is not deleted, with its tokens counted that are live at now. ErrNotFound.
	TokenPool(ctx context.Context, tenant fleet.TenantID, idOrName string, now time.Time) (fleet.TokenPool, error)
	// TokenPools lists those by name, counted likewise.
	TokenPools(ctx context.Context, tenant fleet.TenantID, now time.Time, page fleet.Page) (list []fleet.TokenPool, next string, err error)
	// TokenPoolByHash finds, in any tenant and any state, the one whose present or former secret has the hash. ErrNotFound.
	TokenPoolByHash(ctx context.Context, hash [32]byte) (fleet.TokenPool, error)
	// UpdateTokenPool changes a pool that is not deleted, for the tokens to come. ErrNotFound, ErrDynamic as of
	// CreateTokenPool.
	UpdateTokenPool(ctx context.Context, by fleet.By, id fleet.PoolID, change fleet.PoolChange) (fleet.TokenPool, error)
	// RotateTokenPool gives the pool another secret. The one before is good until the time given, zero for not at all, and
	// found by its hash all the same; what was before that is forgotten. ErrNotFound.
	RotateTokenPool(ctx context.Context, by fleet.By, id fleet.PoolID, hash [32]byte, until time.Time) (fleet.TokenPool, error)
	// DeleteTokenPool ends the pool, frees its name, and revokes its tokens that are live at by.At, so many. ErrNotFound.
	DeleteTokenPool(ctx context.Context, by fleet.By, id fleet.PoolID) (revoked int, err error)
	// DrawToken stores a token of the pool, whose ID and Hash are given, if the pool's state and limits at by.At let it; its
	// group, tags and life are those of the pool. A refusal is a verdict, not an error, and is counted in the audit log. Of many
	// that draw at once no more get one than the limits allow. ErrNotFound if the pool is deleted.
	DrawToken(ctx context.Context, by fleet.By, id fleet.PoolID, t fleet.BootstrapToken) (fleet.DrawVerdict, error)
}

// Certificates are those of agents.
type Certificates interface {
	// Certificate returns a recorded certificate. ErrNotFound.
	Certificate(ctx context.Context, tenant fleet.TenantID, serial fleet.Serial) (fleet.Certificate, error)
	// Renewable judges what an agent asks for, as it stands at the time.
	Renewable(ctx context.Context, r fleet.CertificateRenewal) (fleet.RenewalVerdict, error)
	// Renew records a certificate for what was asked, with audit and event, if the verdict is still that it may be had;
	// any other verdict is returned, and nothing written. Of two that ask with one key, exactly one is recorded, and for one
	// offer one certificate.
	Renew(ctx context.Context, by fleet.By, r fleet.CertificateRenewal, c fleet.Certificate) (fleet.RenewalVerdict, error)
	// CertificatesOf returns those of an agent, newest first, at most 100. ErrNotFound if there is no such agent.
	CertificatesOf(ctx context.Context, tenant fleet.TenantID, agent fleet.AgentID) ([]fleet.Certificate, error)
	// RevokeCertificates revokes what is neither revoked nor expired at by.At, closes the sessions that were opened with
	// it, and returns what it has revoked; audit and events go along. No claim that is decided later gets a session with
	// it. ErrNotFound if an agent, a serial or a key is none of the tenant's; then nothing is revoked. Of a key's
	// certificates, fleet.RevocationBatch are revoked at once: the next time others. Live tokens that are for the identity of
	// an agent end with its certificates, also where none was left to revoke.
	RevokeCertificates(ctx context.Context, by fleet.By, r fleet.Revocation) ([]fleet.Certificate, error)
	// RevokedSince returns what was revoked after the revocation of that number and is not yet expired at now, at most max
	// serials. A revocation that is committed later has a higher number than all that are returned.
	RevokedSince(ctx context.Context, tenant fleet.TenantID, number int64, now time.Time, max int) (fleet.Revocations, error)
}

// Upkeep keeps what is done so that agents do not run out of certificates: a row for each that has shown one of its own,
// due at once when it shows another.
type Upkeep interface {
	// DueUpkeep returns what is known of up to max agents of all tenants that are to be looked at at now, those first that
	// have been due longest.
	DueUpkeep(ctx context.Context, now time.Time, max int) ([]fleet.Upkeep, error)
	// ApplyUpkeep does steps for agents of the tenant, with their remarks, events and audit, and puts offers into the outbox.
	// It says how many it did. Left out is what was decided on something else than there is: on another version, or, for an
	// offer, another session; that agent stays due. An offer raises the number of offers and the generation by one.
	ApplyUpkeep(ctx context.Context, tenant fleet.TenantID, decided []UpkeepDecision, at time.Time) (done int, err error)
	// OfferAgain forgets the offers that were made in the place of the certificate an agent shows, so many, and the remark
	// about it; the agent is due at by.At, and what is said of an offer that was forgotten does not count. A reason other than
	// empty is why it is not to be offered one; then nothing is written. ErrNotFound.
	OfferAgain(ctx context.Context, by fleet.By, agent fleet.AgentID) (forgotten int, reason string, err error)
}

// UpkeepDecision is a step for an agent's certificate, with what it was decided on.
type UpkeepDecision struct {
	On   fleet.Upkeep
	Step fleet.UpkeepStep
}

// RevocationLists are those of signing keys.
type RevocationLists interface {
	// DueLists names the keys that have revoked what no list names yet, or whose list is of before, and those that certify
	// agents, are not retired and have no list.
	DueLists(ctx context.Context, before time.Time) ([]fleet.RevocationList, error)
	// RevokedBy returns what a key has signed that is revoked and not expired at now, or that no list has named yet, and
	// the number of the key's list, 0 if it has none (RFC 5280, section 3.3: each is named at least once).
	RevokedBy(ctx context.Context, tenant fleet.TenantID, key fleet.KeyID, now time.Time) (revoked []fleet.Revoked, number int64, err error)
	// PutRevocationList stores the list that follows the one before, and notes that it names these. ErrConflict if another
	// one has followed meanwhile.
	PutRevocationList(ctx context.Context, l fleet.RevocationList, names []fleet.Revoked) error
	// RevocationList returns the list of a key of any tenant. ErrNotFound.
	RevocationList(ctx context.Context, key fleet.KeyID) (fleet.RevocationList, error)
}

// Responders keeps what answers for signing keys.
type Responders interface {
	// DueResponders names the keys that certify agents, and are not retired, without a responder or with one whose
	// certificate ends before; its serial is that of the latter.
	DueResponders(ctx context.Context, ends time.Time) ([]fleet.Responder, error)
	// PutResponder stores the responder of a key in the place of the one with the serial, empty if there is none.
	// ErrConflict if there is another.
	PutResponder(ctx context.Context, r fleet.Responder, replaces fleet.Serial) error
	// Responder returns that of a key of any tenant. ErrNotFound.
	Responder(ctx context.Context, key fleet.KeyID) (fleet.Responder, error)
}

// Restoration is for a database that was put back from a backup, before anything else is done with it.
type Restoration interface {
	// VoidAfterBackup makes void what may have been handed out since the backup: sessions end, and no epoch is given twice;
	// tokens that are not redeemed, and may be, are revoked; what gateways know of revocations is of another line. An
	// audit event tells each tenant. ErrState while the lease of a replica lasts at r.At: it would go on as before.
	VoidAfterBackup(ctx context.Context, r Restored) (Voided, error)
	// ImportRevocationList makes a list that was published the newest of its key, unless there is a newer one, and revokes
	// what it names: what is not on record is named by the key's further lists.
	ImportRevocationList(ctx context.Context, by fleet.By, l fleet.RevocationList, names []fleet.Revoked) (Imported, error)
}

// EpochLeap is above the number of sessions that an agent can have had since a backup.
const EpochLeap = 1 << 32

// Restored says how a database goes on that was put back.
type Restored struct {
	At time.Time
	// Setting names the line of revocations, and Line the new one.
	Setting string
	Line    []byte
}

// Voided counts what was made void.
type Voided struct{ Sessions, BootstrapTokens, JoinTokens int }

// Imported counts what a list names: revoked by it, and not on record.
type Imported struct{ Revoked, Unknown int }

// Redemption is a bootstrap token turned into an identity, or into the certificate of one that comes back.
type Redemption struct {
	By          fleet.By
	Token       fleet.TokenID
	Agent       fleet.AgentID
	Method      fleet.EnrolmentMethod
	Certificate fleet.Certificate
	Partition   int // of a new agent, for resyncs
}

// Sessions keeps gateways and who holds which agent.
type Sessions interface {
	// RegisterGateway records a gateway process with its lease. Sessions of its earlier boots stay open, as those of any
	// process without a lease: their agents are on their way. What was put off for those of this boot falls due. Of the
	// gateway's identity it changes nothing; one that did not join serves every tenant. ErrLeaseLost if the gateway is
	// revoked.
	RegisterGateway(ctx context.Context, g fleet.Gateway) error
	// RenewLease moves the lease of exactly this boot and notes whether its bus is lost, which a new boot's is not.
	// ErrLeaseLost if the gateway runs under another boot, the lease ended and its sessions were ended with it, or the
	// gateway is revoked.
	RenewLease(ctx context.Context, r Renewal) error
	// Standings returns, for each claim, the session that it is about as it stands: that of the agent its uid is bound to,
	// or of its identity if the uid is new.
	Standings(ctx context.Context, claims []fleet.Claim) ([]fleet.Standing, error)
	// Claim takes sessions of agents: see fleet.Claim. It returns a result for each claim, in their order: those of claims
	// made one after the other, though they share an identity, a uid or a parent. The first claim of an identity's
	// certificate sets Agent.FirstSeenAt; the epoch grows with each; a uid is bound to its agent for good; unsent dispatches
	// fall due; the engine wakes. What was said in the session before still counts up to ClaimResult.LastSequence. A claim
	// that is shared changes nothing but that the gateway serves the session too. A refusal is a result, not an error.
	// ErrLeaseLost, and nothing of any claim is written, if a gateway that claims has no lease at Claim.At or is revoked.
	Claim(ctx context.Context, claims []fleet.Claim) ([]fleet.ClaimResult, error)
	// EndLost moves sessions whose gateway has no lease at now to another that serves them too, where what was put off for
	// them falls due, and ends those whose gateway process has had none since the time given. It returns how many it ended.
	EndLost(ctx context.Context, since, now time.Time) (int, error)
}

// Renewal is one more term for a gateway's boot.
type Renewal struct {
	Gateway    fleet.GatewayID
	BootID     uint64
	Now, Until time.Time
	BusLost    bool // see fleet.Gateway
	// Trust is the number of the last change of signing keys that the gateway knows.
	Trust int64
}

// Gateways keeps who may be a gateway: identities, and the tokens with which they join. Gateways are the installation's,
// not a tenant's: what happens to one is told to each tenant that it serves or served, in that tenant's audit log. An
// empty tenant is the installation's operator, who has no log of its own.
type Gateways interface {
	// IssueJoinToken stores the token; its audit event stands in by.Tenant, which may be empty for the operator of the
	// installation: then there is none. ErrNotFound if its scope names a tenant that is none.
	IssueJoinToken(ctx context.Context, by fleet.By, t fleet.JoinToken) error
	// JoinTokenByHash finds a token of any state. ErrNotFound.
	JoinTokenByHash(ctx context.Context, hash [32]byte) (fleet.JoinToken, error)
	// JoinTokens lists those that the tenant issued, newest first.
	JoinTokens(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (list []fleet.JoinToken, next string, err error)
	// RevokeJoinToken revokes a live token that by.Tenant issued. ErrNotFound; ErrState if it is not live at by.At.
	RevokeJoinToken(ctx context.Context, by fleet.By, id fleet.TokenID) (fleet.JoinToken, error)

	// Join uses the token and records the gateway with its certificate, all or nothing: a name that is known gets the
	// token's scope and the new certificate in place of any other, is not revoked any more, and its process, if it has
	// one, has lost its lease. The token must be live at j.At, or have been used with the same key less than
	// fleet.RedemptionWindow before by a gateway that has not registered since, nor been revoked, nor joined with another
	// token. Whose token a tenant issued may take no name that is known and serves others than that tenant. ErrNotFound;
	// ErrState if it is none of this; of two that use one token with different keys at once exactly one succeeds.
	Join(ctx context.Context, j Joining) (fleet.Gateway, error)
	// RenewGateway gives the gateway another certificate beside the one it shows, which becomes the previous: any third is
	// good no more, as one whose handing out failed. ErrConflict if what it shows is neither its present nor its previous
	// one, or the gateway is revoked.
	RenewGateway(ctx context.Context, id fleet.GatewayID, shown, next fleet.Serial, notAfter time.Time) error
	// Gateway finds one, whomever it serves, without counting its sessions: who shows a certificate is looked up often.
	// ErrNotFound.
	Gateway(ctx context.Context, id fleet.GatewayID) (fleet.Gateway, error)
	// GatewayOf finds one that may serve the tenant, with the tenant's sessions that it holds. ErrNotFound.
	GatewayOf(ctx context.Context, tenant fleet.TenantID, id fleet.GatewayID) (fleet.Gateway, error)
	// Gateways lists those that may serve the tenant, as GatewayOf finds them, by id.
	Gateways(ctx context.Context, tenant fleet.TenantID, page fleet.Page) (list []fleet.Gateway, next string, err error)
	// RevokeGateway refuses the gateway from by.At on: its lease ends and the sessions it holds end with it, as those of an
	// earlier boot do. So do the unused join tokens for its name, if by is a tenant those for that tenant alone. Its scope
	// must be by.Tenant alone, or by.Tenant empty (the operator). ErrNotFound also if it does not serve by.Tenant; ErrState
	// if it is revoked already or serves other tenants too.
	RevokeGateway(ctx context.Context, by fleet.By, id fleet.GatewayID) (fleet.Gateway, error)
}

// Joining is a join token about to be used.
type Joining struct {
	Token     fleet.TokenID
	PublicKey [32]byte
	Serial    fleet.Serial
	NotAfter  time.Time
	At        time.Time
	Source    string // address of the caller
}

// Replicas keeps which processes of the control plane live, and what each of them does alone. What a replica holds,
// partitions and duties, it holds as long as its lease lasts: one row is renewed for all of it.
type Replicas interface {
	// RenewReplica records that the process lives until the time given, forgets those whose lease ended an hour before
	// now, and returns the ids of all that live at now, ascending.
	RenewReplica(ctx context.Context, r fleet.Replica, now time.Time) (living []string, err error)
	// LeaveReplica ends the lease: whatever the process holds is free at once.
	LeaveReplica(ctx context.Context, id string) error
	// AcquireDuty takes a duty that is free, whose holder's lease has ended at now, or that is the caller's already.
	// ErrLeaseLost if another living replica has it.
	AcquireDuty(ctx context.Context, duty, holder string, now time.Time) error
	// Clock is the database's clock: the one that leases of several processes are measured by.
	Clock(ctx context.Context) (time.Time, error)
}

// PartitionLease is the right to record one uplink partition.
type PartitionLease struct {
	Partition int
	Holder    string
	// Epoch fences: a lease taken over later has a higher one.
	Epoch int64
	// Position up to which the partition is recorded; empty at first.
	Position string
}

// Counter is the last message counter of a gateway boot in a partition.
type Counter struct {
	Gateway fleet.GatewayID
	BootID  uint64
	Value   uint64
}

// Record is one read of a partition, ready to be written.
type Record struct {
	Lease    PartitionLease
	Position string // of the last message
	Counters []Counter
	Uplinks  []fleet.Uplink
	At       time.Time
}

// Recorded says what became of a record's uplinks.
type Recorded struct {
	Applied int
	// Stale uplinks came from a gateway or epoch that does not hold the session; dropped.
	Stale int
	// Unknown uplinks named bodies that are not stored; dropped, full state is asked for.
	Unknown int
	// Woken is how many agents the engine was woken for.
	Woken int
}

// Inbox records what gateways send. Alone of all it writes parts of reports.
type Inbox interface {
	// AcquirePartition takes a partition that is free, whose holder's lease as a replica has ended at now, or that is the
	// caller's already. It stays the caller's while its own lease as a replica lasts. ErrLeaseLost if another living
	// replica holds it.
	AcquirePartition(ctx context.Context, partition int, holder string, now time.Time) (PartitionLease, error)
	// ReleasePartition gives a partition back, so that another replica can go on at once. Nothing happens to one that was
	// taken over.
	ReleasePartition(ctx context.Context, lease PartitionLease) error
	// Counters returns the counters of a partition.
	Counters(ctx context.Context, partition int) ([]Counter, error)
	// Record writes effects, counters and position in one transaction, fenced by the lease's epoch: ErrLeaseLost and
	// nothing written if it was taken over. A part is written only by a later stamp than the one on record. A report, end
	// or delivery counts only if its gateway, boot and epoch are those of the agent's session. The engine wakes for a
	// report that asks for it, for capabilities other than those on record, and for the delivery of the open grant. What a
	// revoked gateway says does not count. A report of the session before counts as Claim says. What changed is told as an
	// event, of one agent fleet.HistoryPerHour times in an hour, sessions that it claims among them; more is counted.
	Record(ctx context.Context, r Record) (Recorded, error)
	// Resync asks every agent of the partition with an open session at gateway (all gateways if empty) for its full
	// state, through the outbox.
	Resync(ctx context.Context, partition int, gateway fleet.GatewayID, at time.Time) (int, error)
}

// WorkItem is one agent the engine should look at.
type WorkItem struct {
	Tenant fleet.TenantID
	Agent  fleet.AgentID
	// Version grows with every wake and every claim of the item.
	Version int64
	// Trace is that of the latest wake that had one, until the item settles. What Apply sends has it.
	Trace fleet.Traceparent
	// Push asks to send what is assigned once more, until the item settles.
	Push bool
}

// Decision is a step for an item's agent, with the situation it was decided on.
type Decision struct {
	Item WorkItem
	On   fleet.Situation
	Step fleet.Step
}

// Generation is the one of the agent's grant once the step is done; 0 if it has none.
func (d Decision) Generation() fleet.Generation {
	switch {
	case d.Step.Grant != nil:
		return d.Step.Grant.Generation
	case d.On.Grant != nil:
		return d.On.Grant.Generation
	default:
		return 0
	}
}

// Work is the engine's: it alone writes grants, attempts and deliveries.
type Work interface {
	// ClaimWork takes up to max items due at now, of all tenants, and hides them until the given time. Two claimers never
	// get one item.
	ClaimWork(ctx context.Context, now, until time.Time, max int) ([]WorkItem, error)
	// Situations reads what there is to know, at one moment, about agents of the tenant: one for each, in their order. Of
	// an agent that is gone it is the zero Situation. An agent in rendered is assigned what is said there, if it is a
	// rendering of the version that it is assigned.
	Situations(ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID, rendered map[fleet.AgentID]fleet.VersionRef) ([]fleet.Situation, error)
	// TemplateValues returns what templates may ask for of agents. One that is gone is not in the map.
	TemplateValues(ctx context.Context, tenant fleet.TenantID, agents []fleet.AgentID) (map[fleet.AgentID]fleet.TemplateValues, error)
	// PutRenderings stores those that are new. Idempotent. ErrNotFound if a version or a body is not stored.
	PutRenderings(ctx context.Context, tenant fleet.TenantID, renderings []fleet.Rendering, at time.Time) error
	// Apply does the steps of items of the tenant and settles the items: they are gone, or due at Step.WakeAt. It returns
	// one error for each, in their order; what is not nil says that nothing was done of this step, and that its item
	// stays due as it is, while the others are done. ErrConflict: the step was decided on what is not so any more,
	// because the item was woken or claimed again, the grant has another generation, the agent other remarks, or a line
	// of the ledger was cleared. ErrState: no grant may become what the step says (fleet.GrantTransitions), or its
	// generation goes back. Of several steps for one agent one is done at most.
	Apply(ctx context.Context, tenant fleet.TenantID, decided []Decision, at time.Time) ([]error, error)
}

// LeaseGrace is how long after the end of a gateway's lease nobody gives up what is to be sent over it: longer than any
// transaction that renews it takes, and than the clocks of two processes differ.
const LeaseGrace = time.Minute

// DispatchTries is how often anything but a configuration is sent before it is given up.
const DispatchTries = 5

// Outbox is the sender's.
type Outbox interface {
	// ClaimDispatches takes up to max rows due at now, of all tenants, whose agents have an open session at a gateway
	// with a live lease, and moves their due time to retry, which is after now. A configuration row counts only while its
	// grant is open and of the same generation. Rows that cannot be sent do not stand in the way of others: they are put
	// off until retry or, if their agents have no such session, until there is one, a lease counting as alive for
	// LeaseGrace longer: a renewal may be under way. What expires is dropped then; a restart command is dropped before it
	// is sent, so that it is sent at most once, and with the end of the session.
	ClaimDispatches(ctx context.Context, now, retry time.Time, max int) ([]fleet.Dispatch, error)
	// MarkSent notes that dispatches went to their gateways. Their rows stay, due again at the retry of the claim, until
	// the effect is seen: an offer until the grant settles, a request for full state until a description is recorded after
	// it was claimed, a close until the session ends or another is claimed, a renewal until its gateway says what became of
	// it or another certificate is shown. All but the first are dropped with try DispatchTries, unless they were asked for
	// anew since the claim.
	MarkSent(ctx context.Context, sent []fleet.Dispatch, at time.Time) error
}

// Events is history and live stream.
type Events interface {
	// EventsBefore lists those that the filter selects, newest first.
	EventsBefore(ctx context.Context, tenant fleet.TenantID, f fleet.EventFilter, page fleet.Page) (list []fleet.Event, next string, err error)
	// EventsAfter returns what was committed after the cursor, in an order in which nothing can appear later before
	// something already returned.
	EventsAfter(ctx context.Context, tenant fleet.TenantID, after fleet.Cursor, max int) ([]fleet.Event, error)
	// LastCursor is the newest place in the stream.
	LastCursor(ctx context.Context, tenant fleet.TenantID) (fleet.Cursor, error)
	// PruneEvents deletes up to max events that are older than before, of all tenants, and says how many that were.
	PruneEvents(ctx context.Context, before time.Time, max int) (int, error)
}

// SigningKeys keeps the keys of the certificate authority.
type SigningKeys interface {
	// SigningKeys returns the keys of a tenant (or of none) that are not retired, oldest first.
	SigningKeys(ctx context.Context, tenant fleet.TenantID) ([]fleet.SigningKey, error)
	// CreateSigningKeys stores all or none. ErrExists if one of them is active and the tenant has an active key of its
	// kind.
	CreateSigningKeys(ctx context.Context, tenant fleet.TenantID, keys []fleet.SigningKey) error
	// AddSigningKey stores a draft of by.Tenant. ErrExists.
	AddSigningKey(ctx context.Context, by fleet.By, key fleet.SigningKey) error
	// SigningKeyUses returns the keys of a tenant, those that are retired too, oldest first, with what stands of each now,
	// and without what they are sealed with.
	SigningKeyUses(ctx context.Context, tenant fleet.TenantID, now time.Time) ([]fleet.KeyUse, error)
	// ChangeSigningKey makes the change if nothing speaks against it; else it says why, and what stands of the key, and
	// changes nothing. Of a key that is retired the sessions are closed. Changes of one tenant's keys are made one after
	// the other. ErrNotFound.
	ChangeSigningKey(ctx context.Context, by fleet.By, c fleet.KeyChange) (was fleet.KeyUse, reason string, err error)
	// TrustGeneration is the number of changes of signing keys so far, of all tenants: whoever reads keys after it finds
	// that many.
	TrustGeneration(ctx context.Context) (int64, error)
	// TrustedUntil names the keys that are trusted since then or for longer.
	TrustedUntil(ctx context.Context, since time.Time) ([]fleet.SigningKey, error)
}

// Envelopes are what is wrapped under the master key, wherever it stands.
type Envelopes interface {
	// Envelopes returns up to max of a column, those of a tenant or (empty) of the installation, by key, after the key
	// given. Of a row in which nothing is wrapped there is none.
	Envelopes(ctx context.Context, c fleet.WrappedColumn, tenant fleet.TenantID, after string, max int) ([]fleet.Envelope, error)
	// ReplaceEnvelope puts another value into the place of the one given, which is of by.Tenant, and audits it there; of the
	// installation's, whose tenant is empty, there is no audit log. ErrConflict if something else stands there by now, or
	// nothing.
	ReplaceEnvelope(ctx context.Context, by fleet.By, c fleet.WrappedColumn, was fleet.Envelope, value []byte) error
}

// Queues says how much waits in the database's queues.
type Queues interface {
	// Backlog returns what is due at now, of all tenants.
	Backlog(ctx context.Context, now time.Time) (Backlog, error)
}

// Backlog is what is due and not done.
type Backlog struct {
	Work   Queue // for the engine
	Outbox Queue // for the sender
}

// BacklogLimit is the most that a Queue counts: counting more would cost more than it says.
const BacklogLimit = 100_000

// Queue is what is due of one kind, and since when the oldest of it is; zero if nothing is.
type Queue struct {
	Due    int
	Oldest time.Time
}
