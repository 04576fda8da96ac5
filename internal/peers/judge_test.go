package peers

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
)

// A certificate is refused from the moment that the list names it, and no other is.
func TestJudgeLooksUpTheCertificate(t *testing.T) {
	d := newDesk(t)
	alice, bob := d.root.client("alice"), d.root.client("bob")
	d.write(d.files.CRL, d.root.list(7, nil, bob))
	require.NoError(t, d.open())
	assert.Equal(t, Reason(""), d.judge(alice))
	assert.Equal(t, Revoked, d.judge(bob))
	assert.Equal(t, Untrusted, d.judge(newAuthority(t, "root").client("alice")), "of another authority of that name")
	server, _ := d.root.issue("server", x509.ExtKeyUsageServerAuth)
	assert.Equal(t, Untrusted, d.judge(server), "not for clients")
	d.wait(25 * time.Hour)
	assert.Equal(t, Expired, d.judge(alice))
}

// Each certificate of the way up is looked up: also one that the file stands for, when the file holds its issuer too.
func TestJudgeLooksUpWhatIsBetween(t *testing.T) {
	d := newDesk(t)
	between := d.root.under("between")
	alice := between.client("alice")

	require.NoError(t, d.open())
	assert.Equal(t, ListMissing, d.judge(alice, between.cert), "nobody says what between revoked")

	both := slices.Concat(d.root.list(1, nil), between.list(1, nil))
	for revoked, lists := range map[string][]byte{
		"":        both,
		"alice":   slices.Concat(d.root.list(1, nil), between.list(1, nil, alice)),
		"between": slices.Concat(d.root.list(1, nil, between.cert), between.list(1, nil)),
		"root":    slices.Concat(d.root.list(1, nil, d.root.cert), between.list(1, nil)),
	} {
		d.write(d.files.ClientCA, certificates(d.root.cert, between.cert))
		d.write(d.files.CRL, lists)
		require.NoError(t, d.open())
		want := Revoked
		if revoked == "" {
			want = ""
		}
		assert.Equal(t, want, d.judge(alice, between.cert), "revoked: %s", revoked)
		assert.Equal(t, want, d.judge(alice), "revoked: %s; the client sends its own certificate alone", revoked)
	}

	d.write(d.files.ClientCA, certificates(between.cert))
	d.write(d.files.CRL, between.list(1, nil))
	require.NoError(t, d.open())
	assert.Equal(t, Reason(""), d.judge(alice), "the file stands for between, and for nobody above it")
}

// Two authorities that stand for one another make a way up without an end.
func TestJudgeEnds(t *testing.T) {
	d := newDesk(t)
	other := newAuthority(t, "other")
	template := caTemplate("root", 50)
	rootByOther := other.sign(template, d.root.key)
	otherByRoot := d.root.sign(caTemplate("other", 51), other.key)
	d.write(d.files.ClientCA, certificates(rootByOther, otherByRoot))
	d.write(d.files.CRL, slices.Concat(d.root.list(1, nil), other.list(1, nil)))
	require.NoError(t, d.open())
	assert.Equal(t, Reason(""), d.judge(d.root.client("alice")))
	assert.Equal(t, Reason(""), d.judge(other.client("alice")))
}

// A list lets clients in until its next update is due, or for the grace that the operator gives after it; what it revokes stays revoked.
func TestJudgeWithAListThatIsOutOfDate(t *testing.T) {
	for _, grace := range []time.Duration{0, time.Hour} {
		d := newDesk(t)
		d.files.Grace = grace
		alice, bob := d.root.client("alice"), d.root.client("bob")
		d.write(d.files.CRL, d.root.list(1, nil, bob))
		require.NoError(t, d.open())
		d.wait(2*time.Hour - time.Second)
		d.peers.Look(false)
		assert.Empty(t, d.alarmed())
		assert.Equal(t, Reason(""), d.judge(alice))
		d.wait(time.Second)
		d.peers.Look(false)
		d.peers.Look(false)
		assert.Equal(t, []audit.Event{audit.RevocationListLate}, d.alarmed(), "once")
		d.wait(grace - time.Second)
		if grace > 0 {
			assert.Equal(t, Reason(""), d.judge(alice))
		}
		d.wait(time.Second)
		assert.Equal(t, ListLate, d.judge(alice))
		assert.Equal(t, Revoked, d.judge(bob))

		d.write(d.files.CRL, d.root.list(2, func(l *x509.RevocationList) { l.NextUpdate = d.clock().Add(time.Hour) }, bob))
		d.peers.Look(true)
		assert.Equal(t, Reason(""), d.judge(alice))
	}
}

// A start with a list that is out of date alarms, and serves as soon as a newer one is there.
func TestOpenWithAListThatIsOutOfDate(t *testing.T) {
	d := newDesk(t)
	d.wait(3 * time.Hour)
	require.NoError(t, d.open())
	assert.Equal(t, []audit.Event{audit.RevocationListLate}, d.alarmed())
	assert.Equal(t, ListLate, d.judge(d.root.client("alice")))
}

// A connection's certificate is judged once, and again when a file has changed, a certificate ends, or a list is out of date.
func TestCheckIsKept(t *testing.T) {
	d := newDesk(t)
	d.files.Grace = 30 * time.Hour
	require.NoError(t, d.open())
	alice := d.root.client("alice")
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{alice}, VerifiedChains: [][]*x509.Certificate{{alice, d.root.cert}}}
	ctx := d.peers.ConnContext(t.Context(), nil)
	for range 100 {
		require.NoError(t, d.peers.Check(ctx, state))
	}
	assert.EqualValues(t, 1, d.peers.judged.Load())

	d.renew()
	d.peers.Look(true)
	require.NoError(t, d.peers.Check(ctx, state))
	require.NoError(t, d.peers.Check(ctx, state))
	assert.EqualValues(t, 2, d.peers.judged.Load())

	d.wait(24 * time.Hour)
	require.NoError(t, d.peers.Check(ctx, state), "good at its last moment")
	d.wait(time.Second)
	var refused *Refused
	require.ErrorAs(t, d.peers.Check(ctx, state), &refused)
	assert.Equal(t, Expired, refused.Reason)
	require.Error(t, d.peers.Check(ctx, state))
	assert.EqualValues(t, 3, d.peers.judged.Load(), "a refusal is kept too")

	require.ErrorAs(t, d.peers.Check(ctx, nil), &refused)
	require.ErrorAs(t, d.peers.Check(ctx, &tls.ConnectionState{}), &refused)
	assert.Equal(t, NoPeer, refused.Reason)
}

func BenchmarkCheck(b *testing.B) {
	d := newDesk(b)
	require.NoError(b, d.open())
	alice := d.root.client("alice")
	state := &tls.ConnectionState{PeerCertificates: []*x509.Certificate{alice}, VerifiedChains: [][]*x509.Certificate{{alice, d.root.cert}}}
	ctx := d.peers.ConnContext(b.Context(), nil)
	b.Run("kept", func(b *testing.B) {
		for b.Loop() {
			_ = d.peers.Check(ctx, state)
		}
	})
	b.Run("anew", func(b *testing.B) {
		for b.Loop() {
			_ = d.peers.Check(b.Context(), state)
		}
	})
}
