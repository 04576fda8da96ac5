package rpc

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/internal/peers"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer"
	"github.com/pursekeeper/pursekeeper/store"
)

// Published test masters. Never real keys.
var testMasters = map[keyderive.Kind]string{
	keyderive.KindLoad: "F7C1734AABB56E2CE6E3AE76862FDC3B",
	keyderive.KindTAC:  "7FA79B75451FCDF820734AE367923E85",
}

const testIssuer = "1000100010001000"

// world is a whole signer on the wire: certificates, a TLS listener, an admin listener, a database file, keys in memory.
type world struct {
	t         testing.TB
	authority *devpki.Authority
	store     *store.Database
	log       *sealedLog
	signer    *signer.Signer
	office    *custody.Office
	files     peers.Files
	peers     *peers.Peers
	admission *Admission
	logs      *journal
	registry  *prometheus.Registry
	public    net.Addr
	admin     net.Addr
	stop      context.CancelFunc
	stopped   chan error
	ended     sync.Once
}

// setup is what a test may change before the world is made.
type setup struct {
	keySets []signer.KeySet
	clients []policy.Client
	store   func(store.Store) store.Store
	past    bool // the signer replays, as if its record were sealed
	server  func(*http.Server)
	cas     []*x509.Certificate // further authorities of clients
	crl     bool                // the authority has a list of revoked certificates
	ready   func(context.Context) error
	timeout time.Duration
	unread  time.Duration // of a stream; 0 is the service's own
	grace   time.Duration

	admission AdmissionConfig
}

func newWorld(t testing.TB, changes ...func(*setup)) *world {
	t.Helper()
	w := &world{t: t, logs: &journal{}, registry: prometheus.NewRegistry(), stopped: make(chan error, 1)}
	s := &setup{
		keySets: testKeySets(t), clients: testClients(), timeout: 5 * time.Second, grace: 15 * time.Second,
		store: func(s store.Store) store.Store { return s }, server: func(*http.Server) {},
	}
	for _, change := range changes {
		change(s)
	}
	var err error
	w.authority, err = devpki.NewAuthority(time.Now())
	require.NoError(t, err)
	w.store, err = store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.store.Close()) })
	w.log = newSealedLog(t)
	rules, err := policy.New(policy.Rules{Clients: s.clients})
	require.NoError(t, err)
	metrics := NewMetrics(w.registry)
	w.office, err = custody.NewOffice(custody.Options{Store: s.store(w.store), Node: "test"})
	require.NoError(t, err)
	w.admission, err = NewAdmission(s.admission)
	require.NoError(t, err)
	w.registry.MustRegister(w.admission)
	config := signer.Config{Turns: w.admission, Policy: rules, Store: s.store(w.store), KeySets: s.keySets, Sealed: w.log, Alarm: metrics.Alarm, Office: w.office}
	if s.past {
		config.Past = &wholeRecord{config.Store}
	}
	w.signer, err = signer.New(config)
	require.NoError(t, err)
	require.NoError(t, w.signer.Start(t.Context(), nil)) // entry 0, as in the binary
	w.serve(s, metrics)
	return w
}

// serve starts both listeners as the binary does.
func (w *world) serve(s *setup, metrics *Metrics) {
	t := w.t
	log := slog.New(slog.NewJSONHandler(w.logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	w.peers = w.openPeers(s, log, metrics.Alarm)
	handler := NewHandler(Config{Signer: w.signer, Peers: w.peers, Metrics: metrics, Log: log, Timeout: s.timeout, Admission: w.admission})
	if s.unread != 0 {
		handler.service.unreadTime = s.unread
	}
	public := NewServer(handler, log)
	s.server(public)
	if s.ready == nil {
		s.ready = w.store.Ready
	}
	admin := NewAdmin(s.ready, w.registry, log)
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	publicListener, adminListener := listen(t), listen(t)
	w.public, w.admin = publicListener.Addr(), adminListener.Addr()
	go func() { w.stopped <- Serve(ctx, public, admin, publicListener, adminListener, s.grace) }()
	t.Cleanup(func() { require.NoError(t, w.end()) })
}

// end stops the world and returns what Serve returned; the cleanup asks it to be nil, unless a test has asked before.
func (w *world) end() (err error) {
	w.ended.Do(func() {
		w.stop()
		err = <-w.stopped
	})
	return err
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// openPeers reads certificates from files, as the binary does.
func (w *world) openPeers(s *setup, log *slog.Logger, alarm func(audit.Event)) *peers.Peers {
	certificate, key, err := w.authority.Server()
	require.NoError(w.t, err)
	dir := w.t.TempDir()
	w.files = peers.Files{Certificate: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key"), ClientCA: filepath.Join(dir, "ca.crt")}
	w.write(w.files.Certificate, certificate)
	w.write(w.files.Key, key)
	authorities := w.authority.Certificate()
	for _, ca := range s.cas {
		authorities = append(authorities, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Raw})...)
	}
	w.write(w.files.ClientCA, authorities)
	if s.crl {
		w.files.CRL = filepath.Join(dir, "ca.crl")
		w.revoke(1)
	}
	p, err := peers.Open(peers.Config{Files: w.files, Log: log, Alarm: alarm})
	require.NoError(w.t, err)
	return p
}

// revoke writes the authority's list of that number.
func (w *world) revoke(number int64, certificates ...[]byte) {
	list, err := w.authority.Revoked(number, time.Now().Add(time.Hour), certificates...)
	require.NoError(w.t, err)
	w.write(w.files.CRL, list)
}

func (w *world) write(path string, content []byte) {
	require.NoError(w.t, os.WriteFile(path, content, 0o600))
}

func (w *world) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	require.True(w.t, pool.AppendCertsFromPEM(w.authority.Certificate()))
	return pool
}

func testClients() (clients []policy.Client) {
	for _, role := range policy.Roles() {
		clients = append(clients, policy.Client{
			Name: string(role), Identity: devpki.Identity(string(role)), Role: role,
			KeySets: []string{"demo", "demo-sm4", "listed"},
		})
	}
	return clients
}

// testKeySets are the demonstration set in both suites, one that lists the ALG bytes of its cards, and one that no client
// may use.
func testKeySets(t testing.TB) []signer.KeySet {
	t.Helper()
	listed, err := purse.ParseProfile([]byte("name: listed\nalgByte: [\"01\"]\n"))
	require.NoError(t, err)
	sets := []signer.KeySet{
		testKeySet(t, "demo", suite.TDES), testKeySet(t, "demo-sm4", suite.SM4), testKeySet(t, "listed", suite.TDES),
		testKeySet(t, "foreign", suite.TDES),
	}
	sets[2].Profile = listed
	return sets
}

// testKeySet is a key set on the engine in memory. Its cards are never locked: most tests show many wrong MAC1s.
func testKeySet(t testing.TB, name string, alg suite.Algorithm) signer.KeySet {
	t.Helper()
	profile, err := purse.ShippedProfile(purse.ProfilePBOC)
	require.NoError(t, err)
	set := signer.KeySet{
		Name: name, Algorithm: alg, Profile: profile, Location: time.FixedZone("CST", 8*3600),
		Issuer: signer.Issuer{Fixed: keyderive.RootFirst(keyderive.Factor(unhex(t, testIssuer)))},
	}
	for kind, master := range testMasters {
		key, err := keyderive.InMemory(alg, secret.Take(unhex(t, master)))
		require.NoError(t, err)
		block, err := alg.New(unhex(t, master))
		require.NoError(t, err)
		set.Versions = append(set.Versions, signer.Version{
			Kind: kind, Number: 1, State: custody.Active, Boundary: keyderive.BoundaryProcess, KCV: kcv.Of(block), Key: key,
		})
	}
	return set
}

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	require.NoError(t, err)
	return b
}

// entries is the whole record.
func (w *world) entries() (all []audit.Entry) {
	err := w.store.Entries(w.t.Context(), 0, func(index uint64, line []byte) bool {
		require.EqualValues(w.t, len(all), index, "a gap in the record")
		e, err := audit.Decode(line)
		require.NoError(w.t, err)
		all = append(all, e)
		return true
	})
	require.NoError(w.t, err)
	return all
}

// attempts is every recorded transaction.
func (w *world) attempts() []store.Listed {
	all, err := w.store.List(w.t.Context(), store.Filter{Limit: 1000})
	require.NoError(w.t, err)
	return all
}

// journal collects log lines.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}
