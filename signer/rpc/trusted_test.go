package rpc

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

func withCRL(s *setup) { s.crl = true }

// member is a platform with a certificate of its own, on one connection.
type member struct {
	caller
	certificate []byte
}

func (w *world) member(until time.Time, http2 bool) member {
	certificate, key, err := w.authority.Client(devpki.Identity("platform"), until)
	config := w.tlsWith(certificate, key, err)
	only := config.Certificates[0] // whatever the server's hint of its authorities says
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &only, nil }
	return member{w.dial(config, http2), certificate}
}

// refusedCallers are the entries of the record about callers who were refused for who they are.
func (w *world) refusedCallers() (details []string) {
	for _, e := range w.entries() {
		if e.Event == "Identify" {
			assert.Equal(w.t, "PERMISSION_DENIED", e.Outcome)
			details = append(details, e.Detail)
		}
	}
	return details
}

func (w *world) certificatesRefused(reason string) float64 {
	families, err := w.registry.Gather()
	require.NoError(w.t, err)
	for _, family := range families {
		for _, m := range family.Metric {
			if family.GetName() == "pursekeeper_certificates_refused_total" && m.Label[0].GetValue() == reason {
				return m.Counter.GetValue()
			}
		}
	}
	require.Fail(w.t, "no such metric")
	return 0
}

// A certificate that is revoked while its connection is open is refused from the next request on, and on new connections too; others on
// the same authority are not. It is recorded once, however often it asks.
func TestARevokedCertificateIsRefusedOnAnOpenConnection(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		w := newWorld(t, withCRL)
		bad, good := w.member(time.Now().Add(time.Hour), http2), w.member(time.Now().Add(time.Hour), http2)
		bad.approved(demoLoad())
		good.approved(demoLoad())
		w.revoke(2, bad.certificate)
		w.peers.Look(true)
		for i := range 20 {
			r := bad.post(authorizeLoad, demoLoad())
			assert.Equal(t, http.StatusUnauthorized, r.status)
			assert.Equal(t, "unauthenticated", r.code())
			assert.Contains(t, r.message(), "is revoked since 20")
			if i == 10 {
				bad.http.CloseIdleConnections()
			}
		}
		good.approved(demoLoad())
		recorded := w.refusedCallers()
		require.Len(t, recorded, 1)
		assert.Regexp(t, `^certificate [0-9A-F]+ of "CN=Pursekeeper development authority" is revoked since .*: \["spiffe://pursekeeper.dev/platform"\]$`, recorded[0])
		assert.Equal(t, 20.0, w.certificatesRefused("revoked"))
		assert.Zero(t, w.certificatesRefused("expired"))
		assert.Contains(t, w.logs.String(), `"msg":"request refused unread","method":"AuthorizeLoad","client":"","code":"unauthenticated"`)
	}
}

// The first message of a stream after its caller's certificate was revoked ends the stream; what was asked before is answered.
func TestARevokedCertificateEndsItsStream(t *testing.T) {
	w := newWorld(t, withCRL)
	bad, good := w.member(time.Now().Add(time.Hour), true), w.member(time.Now().Add(time.Hour), true)
	ends, goesOn := bad.open(connect.WithGRPC()), good.open(connect.WithGRPC())
	for _, stream := range []*bidi{ends, goesOn} {
		require.NoError(t, stream.Send(loadOf("before", demoMessage())))
		answer, err := stream.Receive()
		require.NoError(t, err)
		require.Equal(t, demoMAC2, answer.GetAuthorizeLoad().GetMac2())
	}
	entries := len(w.entries())
	w.revoke(2, bad.certificate)
	w.peers.Look(true)
	require.NoError(t, goesOn.Send(loadOf("after", demoMessage())))
	answer, err := goesOn.Receive()
	require.NoError(t, err)
	assert.Equal(t, demoMAC2, answer.GetAuthorizeLoad().GetMac2())

	wrong := demoMessage() // would be recorded
	wrong.InitializeResponse = demoAnswer + "00000000"
	require.NoError(t, ends.Send(loadOf("after", wrong)))
	answer, err = ends.Receive()
	require.Error(t, err, "%v", answer)
	assert.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(err), "%v", err)
	assert.ErrorContains(t, err, "is revoked since")
	assert.Len(t, w.refusedCallers(), 1)
	assert.Len(t, w.entries(), entries+1, "the refusal")
}

// An export ends at the message after its auditor's certificate was revoked.
func TestARevokedCertificateEndsItsExport(t *testing.T) {
	w := newWorld(t, withCRL)
	w.as("platform").approved(demoLoad())
	w.seal()
	w.log.hold = make(chan struct{})
	certificate, key, err := w.authority.Client(devpki.Identity("auditor"), time.Now().Add(time.Hour))
	auditor := w.dial(w.tlsWith(certificate, key, err), true)
	before := len(w.entries())
	type exported struct {
		lines string
		err   error
	}
	ended := make(chan exported, 1)
	go func() {
		stream, err := auditor.audit().ExportEntries(t.Context(), &v1.ExportEntriesRequest{})
		var lines string
		for err == nil && stream.Receive() {
			lines += stream.Msg().JsonLines
		}
		if err == nil {
			err = errors.Join(stream.Err(), stream.Close())
		}
		ended <- exported{lines, err}
	}()
	require.Eventually(t, func() bool { return len(w.entries()) == before+1 }, 30*time.Second, time.Millisecond)
	w.revoke(2, certificate)
	w.peers.Look(true)
	close(w.log.hold)
	got := <-ended
	assert.Empty(t, got.lines)
	assert.Equal(t, connect.CodeUnauthenticated, connect.CodeOf(got.err), "%v", got.err)
	assert.Len(t, w.refusedCallers(), 1)
}

// A stream of a client that officers suspended ends with his next message: each would be a denial in the record, as fast as he sends.
func TestASuspendedClientsStreamEnds(t *testing.T) {
	w := newWorld(t)
	stream := w.as("platform").open(connect.WithGRPC())
	require.NoError(t, stream.Send(loadOf("before", demoMessage())))
	answer, err := stream.Receive()
	require.NoError(t, err)
	require.Equal(t, demoMAC2, answer.GetAuthorizeLoad().GetMac2())
	clients := testClients()
	for i := range clients {
		clients[i].Suspended = clients[i].Name == "platform"
	}
	rules, err := policy.New(policy.Rules{Clients: clients})
	require.NoError(t, err)
	require.NoError(t, w.store.Commit(t.Context(), store.Change{Custody: true, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		now := p.Custody()
		now.Revision++
		now.Document, err = custody.Catalogue{Revision: now.Revision}.Encode()
		return []audit.Entry{{Event: "Change", Time: time.Now(), Outcome: "APPLIED"}}, err
	}}))
	require.NoError(t, w.signer.Use(1, rules, testKeySets(t)))
	entries := len(w.entries())
	for range 10 {
		if err := stream.Send(loadOf("after", demoMessage())); err != nil {
			break // it ended already
		}
	}
	_, err = stream.Receive()
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "%v", err)
	assert.Len(t, w.entries(), entries+1)
}

// An authority that is taken out takes its clients with it, also from connections that are open; they learn nothing at the handshake of a
// new one but that it is refused.
func TestAnAuthorityIsTakenOut(t *testing.T) {
	odd := newOddAuthority(t)
	w := newWorld(t, func(s *setup) { s.cas = []*x509.Certificate{odd.certificate} })
	theirs := w.dial(w.tlsWith(odd.issue("", nil, devpki.Identity("platform"))), true)
	ours := w.as("platform")
	theirs.approved(demoLoad())
	ours.approved(demoLoad())
	w.write(w.files.ClientCA, w.authority.Certificate())
	w.peers.Look(true)
	r := theirs.post(authorizeLoad, demoLoad())
	assert.Equal(t, "unauthenticated", r.code(), "%v", r.body)
	assert.Len(t, w.refusedCallers(), 1)
	ours.approved(demoLoad())
	theirs.http.CloseIdleConnections()
	_, err := theirs.http.Get(theirs.base + authorizeLoad) //nolint:bodyclose,noctx // there is none
	require.Error(t, err)
}

// A certificate that ends while its connection is open is refused from then on.
func TestACertificateEndsOnAnOpenConnection(t *testing.T) {
	w := newWorld(t)
	short := w.member(time.Now().Add(3*time.Second).Truncate(time.Second), true)
	short.approved(demoLoad())
	require.Eventually(t, func() bool { return short.post(authorizeLoad, demoLoad()).code() == "unauthenticated" }, 20*time.Second, 20*time.Millisecond)
	require.Len(t, w.refusedCallers(), 1)
	assert.Contains(t, w.refusedCallers()[0], "is expired")
}

// The server's certificate is exchanged under load: no request fails, and new connections get the new one.
func TestTheServersCertificateIsExchangedUnderLoad(t *testing.T) {
	w := newWorld(t, withCRL)
	stop := make(chan struct{})
	var group sync.WaitGroup
	for i := range 4 {
		group.Go(func() {
			m := w.member(time.Now().Add(time.Hour), i%2 == 0)
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				if r := m.post(authorizeLoad, demoLoad()); !assert.Equal(t, "OUTCOME_APPROVED", r.body["outcome"], "%v", r.body) {
					return
				}
				if n%5 == 0 {
					m.http.CloseIdleConnections()
				}
			}
		})
	}
	for n := range 10 {
		certificate, key, err := w.authority.Server()
		require.NoError(t, err)
		w.write(w.files.Certificate, certificate) // between the two a look finds a certificate and the key of another
		w.peers.Look(false)
		w.write(w.files.Key, key)
		w.revoke(int64(n + 2))
		w.peers.Look(false)
		w.peers.Look(false)
		pair, err := tls.X509KeyPair(certificate, key)
		require.NoError(t, err)
		conn, err := tls.Dial("tcp", w.public.String(), w.tlsAs("platform"))
		require.NoError(t, err)
		assert.Equal(t, pair.Leaf.SerialNumber, conn.ConnectionState().PeerCertificates[0].SerialNumber)
		require.NoError(t, conn.Close())
	}
	close(stop)
	group.Wait()
	assert.GreaterOrEqual(t, w.peers.Generation(), uint64(11))
	assert.NotContains(t, w.logs.String(), "not in use")
}

// What strangers with many certificates that were taken back can put into the record is bounded.
func TestRefusalsThatAreRecordedAreFew(t *testing.T) {
	var r refusedCertificates
	now := time.Now()
	certificate := func(i int) [sha256.Size]byte { return [sha256.Size]byte{byte(i), byte(i >> 8)} }
	for i := range 2 * refusedAtMost {
		assert.Equal(t, i < refusedAtMost, r.begin(certificate(i), now))
	}
	assert.False(t, r.begin(certificate(1), now.Add(refusedAgain-1)))
	assert.True(t, r.begin(certificate(1), now.Add(refusedAgain)))
	assert.True(t, r.begin(certificate(refusedAtMost), now.Add(refusedAgain)), "the others are forgotten")
	assert.Len(t, r.recorded, 2)
	r.forget(certificate(1))
	assert.True(t, r.begin(certificate(1), now.Add(refusedAgain)), "one that could not be recorded is tried again")
}
