package signer

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/past"
	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// fullKeySet has a key of every kind. Published test masters, never real keys.
func fullKeySet(t testing.TB, name string, alg suite.Algorithm) KeySet {
	t.Helper()
	set := testKeySet(t, name, alg)
	set.Versions = nil
	for _, masters := range []map[purse.KeyKind]softcard.KeyValue{softcard.TestOnlyMasters(), softcard.TestOnlyModuleMasters()} {
		for named, master := range masters {
			kind, err := keyderive.ParseKind(string(named))
			require.NoError(t, err)
			key, err := keyderive.InMemory(alg, secret.Copy(master[:]))
			require.NoError(t, err)
			block, err := alg.New(master[:])
			require.NoError(t, err)
			set.Versions = append(set.Versions, Version{
				Kind: kind, Number: 1, State: custody.Active, Boundary: keyderive.BoundaryProcess, KCV: kcv.Of(block), Key: key,
			})
		}
	}
	return set
}

// chronicle is a signer with every kind of key and client, and a card's side that is computed with the signer's own keys.
type chronicle struct {
	*bench
	t    testing.TB
	set  string
	now  *doctored // what a replay reads
	next uint32    // of a card's random numbers
}

// doctored is the whole record of a bench, with some entries changed on the way to a replay.
type doctored struct {
	of      *bench
	change  map[uint64]func(*audit.Entry)
	altered map[uint64]bool
}

func (d *doctored) Sealed(ctx context.Context) (n uint64, err error) {
	err = d.of.store.Entries(ctx, 0, func(uint64, []byte) bool { n++; return true })
	return n, err
}

func (d *doctored) Entry(ctx context.Context, index uint64) (found past.Entry, err error) {
	found.Altered = true
	err = d.Entries(ctx, index, func(e past.Entry) bool { found = e; return false })
	return found, err
}

func (d *doctored) Entries(ctx context.Context, from uint64, yield func(past.Entry) bool) (err error) {
	wrong := d.of.store.Entries(ctx, from, func(index uint64, line []byte) bool {
		if change := d.change[index]; change != nil {
			var e audit.Entry
			if e, err = audit.Decode(line); err != nil {
				return false
			}
			change(&e)
			if line, err = e.Encode(); err != nil {
				return false
			}
		}
		return yield(past.Entry{Index: index, Line: line, Altered: d.altered[index]})
	})
	if err == nil {
		err = wrong
	}
	return err
}

func newChronicle(t testing.TB, alg suite.Algorithm, change ...func(*Config)) *chronicle {
	t.Helper()
	c := &chronicle{t: t, set: "full", now: &doctored{change: map[uint64]func(*audit.Entry){}, altered: map[uint64]bool{}}}
	c.bench = newBench(t, append([]func(*Config){func(config *Config) {
		var clients []policy.Client
		for _, role := range policy.Roles() {
			clients = append(clients, policy.Client{
				Name: string(role), Identity: "spiffe://pursekeeper.test/" + string(role), Role: role, KeySets: []string{"full"},
			})
		}
		rules, err := policy.New(policy.Rules{Clients: clients})
		require.NoError(t, err)
		config.Policy, config.KeySets, config.Past = rules, []KeySet{fullKeySet(t, "full", alg)}, c.now
	}}, change...)...)
	c.now.of = c.bench
	return c
}

func (c *chronicle) as(role policy.Role) policy.Caller {
	c.t.Helper()
	caller, err := c.Identify(context.Background(), []string{"spiffe://pursekeeper.test/" + string(role)})
	require.NoError(c.t, err)
	return caller
}

// card lends a card key of the signer's, as the card has it.
func (c *chronicle) card(kind keyderive.Kind, use func(keyderive.Card) error) {
	c.t.Helper()
	set := c.current.Load().sets[c.set]
	at, err := set.parseCard(testSerial, "")
	require.NoError(c.t, err)
	require.NoError(c.t, set.master(set.version(kind, 1), at).WithCard(context.Background(), at.factor, use))
}

func (c *chronicle) sessionMAC(kind keyderive.Kind, in [8]byte, data []byte) (mac purse.MAC) {
	c.t.Helper()
	c.card(kind, func(k keyderive.Card) error {
		session, err := k.Session(in)
		if err == nil {
			mac, err = session.MAC(data)
		}
		return err
	})
	return mac
}

func (c *chronicle) tacOf(data []byte) (mac purse.MAC) {
	c.t.Helper()
	c.card(keyderive.KindTAC, func(k keyderive.Card) error {
		tac, err := k.TAC()
		if err == nil {
			mac, err = tac.MAC(data)
		}
		return err
	})
	return mac
}

func (c *chronicle) random() purse.Random {
	c.next++
	return purse.Random{0xC0, 0, byte(c.next >> 8), byte(c.next)}
}

var (
	chronicleDate, _     = purse.ParseDate("20240131")
	chronicleTime, _     = purse.ParseTime("235959")
	chronicleTerminal, _ = purse.ParseTerminal(testTerminal)
)

// load authorises a load of a counter with a right MAC1, or a wrong one.
func (c *chronicle) load(counter purse.Counter, right bool) (Authorization, purse.Load) {
	c.t.Helper()
	init := purse.LoadInit{Balance: 1000, Counter: counter, KVER: 1, Random: c.random()}
	l, err := purse.NewLoad(init, purse.EP, 100, chronicleTerminal)
	require.NoError(c.t, err)
	init.MAC1 = c.sessionMAC(keyderive.KindLoad, l.SessionInput(), l.MAC1Data())
	if !right {
		init.MAC1[0] ^= 1
	}
	a, err := c.AuthorizeLoad(context.Background(), c.as(policy.Platform), LoadRequest{
		KeySet: c.set, CardSerial: testSerial, Purse: purse.EP, AmountFen: 100, TerminalID: testTerminal,
		InitializeResponse: upperHex(init.Bytes()), Date: "20240131", Time: "235959",
	})
	require.NoError(c.t, err)
	return a, l
}

// loads: approved, wrong MAC1, verified, wrong TAC, stale, a settlement right and wrong.
func (c *chronicle) loads() {
	ctx, platform := context.Background(), c.as(policy.Platform)
	a, l := c.load(7, true)
	require.Equal(c.t, ledger.Approved, a.Outcome)
	wrong, _ := c.load(7, false)
	require.Equal(c.t, ledger.MACMismatch, wrong.Outcome)
	tac := c.tacOf(l.TACData(chronicleDate, chronicleTime))
	for _, value := range []string{falsified(upperHex(tac[:])), upperHex(tac[:])} {
		_, err := c.ConfirmLoad(ctx, platform, a.TransactionID, value)
		require.NoError(c.t, err)
	}
	stale, _ := c.load(6, true)
	require.Equal(c.t, ledger.CounterStale, stale.Outcome)
	for _, right := range []bool{true, false} {
		c.settlement(9, right)
	}
}

func (c *chronicle) settlement(counter purse.Counter, right bool) {
	c.t.Helper()
	ctx, platform := context.Background(), c.as(policy.Platform)
	begun, err := c.BeginSettlement(ctx, platform, c.set, testSerial, "", purse.EP)
	require.NoError(c.t, err)
	terminal, err := purse.ParseTerminal(begun.TerminalID)
	require.NoError(c.t, err)
	init := purse.LoadInit{Balance: 1000, Counter: counter, KVER: 1, Random: c.random()}
	l, err := purse.NewLoad(init, purse.EP, settlementAmount, terminal)
	require.NoError(c.t, err)
	init.MAC1 = c.sessionMAC(keyderive.KindLoad, l.SessionInput(), l.MAC1Data())
	if !right {
		init.MAC1[0] ^= 1
	}
	_, err = c.SettleLoad(ctx, platform, begun.ID, upperHex(init.Bytes()))
	require.NoError(c.t, err)
}

func (c *chronicle) unload() {
	ctx, platform := context.Background(), c.as(policy.Platform)
	profile := c.current.Load().sets[c.set].Profile
	init := purse.UnloadInit{Balance: 1000, Counter: 11, KVER: 1, Random: c.random()}
	u, err := purse.NewUnload(profile, init, purse.ED, 50, chronicleTerminal)
	require.NoError(c.t, err)
	init.MAC1 = c.sessionMAC(keyderive.KindUnload, u.SessionInput(), u.MAC1Data())
	a, err := c.AuthorizeUnload(ctx, platform, UnloadRequest{
		KeySet: c.set, CardSerial: testSerial, Purse: purse.ED, AmountFen: 50, TerminalID: testTerminal,
		InitializeResponse: upperHex(init.Bytes()), Date: "20240131", Time: "235959",
	})
	require.NoError(c.t, err)
	require.Equal(c.t, ledger.Approved, a.Outcome)
	mac3 := c.sessionMAC(keyderive.KindUnload, u.SessionInput(), u.MAC3Data(chronicleDate, chronicleTime))
	for _, value := range []string{falsified(upperHex(mac3[:])), upperHex(mac3[:])} {
		_, err = c.ConfirmUnload(ctx, platform, a.TransactionID, value)
		require.NoError(c.t, err)
	}
}

func (c *chronicle) overdraft() {
	ctx, platform := context.Background(), c.as(policy.Platform)
	init := purse.OverdraftInit{Balance: 1000, Counter: 20, KVER: 1, Random: c.random()}
	o, err := purse.NewOverdraft(init, 500, chronicleTerminal)
	require.NoError(c.t, err)
	init.MAC1 = c.sessionMAC(keyderive.KindOverdraft, o.SessionInput(), o.MAC1Data())
	limit := uint64(500)
	a, err := c.AuthorizeOverdraft(ctx, platform, OverdraftRequest{
		KeySet: c.set, CardSerial: testSerial, NewLimitFen: &limit, TerminalID: testTerminal,
		InitializeResponse: upperHex(init.Bytes()), Date: "20240131", Time: "235959",
	})
	require.NoError(c.t, err)
	require.Equal(c.t, ledger.Approved, a.Outcome)
	tac := c.tacOf(o.TACData(chronicleDate, chronicleTime))
	_, err = c.ConfirmOverdraft(ctx, platform, a.TransactionID, upperHex(tac[:]))
	require.NoError(c.t, err)
}

func (c *chronicle) purchase() {
	ctx, reader := context.Background(), c.as(policy.Reader)
	init := purse.PurchaseInit{Balance: 1000, Counter: 3, KVER: 1, Random: c.random()}
	request := PurchaseRequest{
		KeySet: c.set, CardSerial: testSerial, Type: "06", AmountFen: 100, TerminalID: testTerminal,
		InitializeResponse: upperHex(init.Bytes()), Date: "20240131", Time: "235959",
	}
	a, err := c.BeginPurchase(ctx, reader, request)
	require.NoError(c.t, err)
	require.Equal(c.t, ledger.Approved, a.Outcome)
	request.AmountFen++
	conflict, err := c.BeginPurchase(ctx, reader, request)
	require.NoError(c.t, err)
	require.Equal(c.t, ledger.CounterConflict, conflict.Outcome)
	tsn, err := purse.ParseTSN(a.TerminalSerial)
	require.NoError(c.t, err)
	p, err := purse.NewPurchase(init, purse.TTIPurchaseEP, tsn, 100, chronicleTerminal)
	require.NoError(c.t, err)
	mac2 := c.sessionMAC(keyderive.KindPurchase, p.SessionInput(), p.MAC2Data())
	tac := c.tacOf(p.TACData(chronicleDate, chronicleTime))
	right, certificate := upperHex(mac2[:]), upperHex(tac[:])
	for _, shown := range [][2]string{{falsified(right), certificate}, {right, falsified(certificate)}, {right, certificate}, {right, ""}} {
		_, err := c.CompletePurchase(ctx, reader, a.PurchaseID, shown[0], shown[1])
		require.NoError(c.t, err)
	}
	verify := TACRequest{
		KeySet: c.set, CardSerial: testSerial, KeyVersion: 1, Type: "06", AmountFen: 100, TerminalID: testTerminal, TerminalSerial: a.TerminalSerial,
		Date: "20240131", Time: "235959", TAC: certificate,
	}
	forged := verify
	forged.TAC = falsified(certificate)
	for _, r := range []TACRequest{verify, forged} {
		_, err = c.VerifyTac(ctx, c.as(policy.Platform), r)
		require.NoError(c.t, err)
	}
	_, err = c.VerifyTacs(ctx, c.as(policy.Platform), []TACRequest{verify, forged, {KeySet: c.set}})
	require.NoError(c.t, err)
}

// commands: one of each form, one with a PIN, both authentications, key writes and a plan.
func (c *chronicle) commands() {
	ctx, platform := context.Background(), c.as(policy.Platform)
	for _, r := range []CommandRequest{
		{Command: CardBlock, Challenge: "A1B2C3D4"}, {Command: ApplicationBlock, Challenge: "A1B2C3D4", Permanent: true},
		{Command: ApplicationUnblock, Challenge: "A1B2C3D4"}, {Command: ReloadPIN, PIN: "1234"},
		{Command: UpdateBinary, Challenge: "A1B2C3D4", P1: "95", P2: "03", Data: "0102030405"},
		{Command: UpdateRecord, Challenge: "A1B2C3D4", P1: "01", P2: "C4", Data: "AABB"},
	} {
		r.KeySet, r.CardSerial = c.set, testSerial
		a, err := c.SignCommand(ctx, platform, r)
		require.NoError(c.t, err, r.Command)
		require.Equal(c.t, ledger.Approved, a.Outcome)
	}
	_, err := c.AuthenticateCard(ctx, platform, AuthenticateRequest{KeySet: c.set, CardSerial: testSerial, Direction: External, Challenge: "A1B2C3D4"})
	require.NoError(c.t, err)
	set := c.current.Load().sets[c.set]
	var made purse.Cryptogram
	c.card(keyderive.KindInternalAuth, func(k keyderive.Card) error {
		m, err := k.Messaging()
		if err == nil {
			made, err = purse.InternalCryptogram(set.Profile, set.Algorithm, unhex(c.t, "0102030405060708"), m)
		}
		return err
	})
	for _, value := range []string{upperHex(made), falsified(upperHex(made))} {
		_, err := c.AuthenticateCard(ctx, platform, AuthenticateRequest{
			KeySet: c.set, CardSerial: testSerial, Direction: Internal, Challenge: "0102030405060708", Cryptogram: value,
		})
		require.NoError(c.t, err)
	}
	for _, challenges := range [][]string{nil, {"A1B2C3D4"}} {
		_, err = c.PersonaliseCard(ctx, c.as(policy.Personaliser), CardKeysRequest{
			KeySet: c.set, CardSerial: testSerial, KeyWrites: KeyWrites{Kinds: []string{"load"}, Challenges: challenges},
		})
		require.NoError(c.t, err)
	}
}

// lock: repeated wrong MAC1s, then a request of the locked card, and what officers and readers do.
func (c *chronicle) lock() {
	ctx, officer, reader := context.Background(), c.as(policy.Officer), c.as(policy.Reader)
	for range 6 {
		c.load(30, false)
	}
	_, err := c.UnlockCard(ctx, officer, c.set, testSerial, "", "found")
	require.NoError(c.t, err)
	_, err = c.ListKeySets(ctx, officer)
	require.NoError(c.t, err)
	challenged, err := c.Challenge(ctx, reader, c.set, "0000202600000017", 0)
	require.NoError(c.t, err)
	_, err = c.Authenticate(ctx, reader, challenged.SessionID, "0000000000000001", "0000000000000002")
	require.NoError(c.t, err)
	_, err = c.UnlockCard(ctx, reader, c.set, testSerial, "", "no right")
	require.Error(c.t, err)
}

// writeAll makes an entry of every event that an operation can write, right and wrong.
func (c *chronicle) writeAll() {
	c.loads()
	c.unload()
	c.overdraft()
	c.purchase()
	c.commands()
	c.lock()
}

// replayAll replays everything in parts.
func (c *chronicle) replayAll(r ReplayRequest) (all []ReplayedEntry) {
	c.t.Helper()
	sealed, err := c.now.Sealed(context.Background())
	require.NoError(c.t, err)
	if r.To == 0 {
		r.To = sealed
	}
	for done := false; !done; {
		a, err := c.Replay(context.Background(), c.as(policy.Auditor), r)
		require.NoError(c.t, err)
		require.True(c.t, a.Done || a.Next > r.From, fmt.Sprint(a.Next))
		all = append(all, a.Results...)
		r.From, done = a.Next, a.Done
	}
	return all
}
