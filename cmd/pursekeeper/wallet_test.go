package main

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/purse/softcard"
)

// platform is what the wallets of a test call: the signer as it runs now, and how it answers.
type platform struct {
	client   atomic.Pointer[pursekeeperv1connect.SignerServiceClient]
	approved atomic.Int64 // when the last request began that was approved; Unix nanoseconds
	loads    atomic.Int64 // approved
	failures atomic.Int64 // requests that got no outcome
}

func (p *platform) use(s *served) {
	client := s.client("platform")
	p.client.Store(&client)
}

// wallet is a card, the platform's work with it, and the truth that the signer's answers are held against.
type wallet struct {
	t       *testing.T
	on      *platform
	set     string
	serial  string
	profile purse.Profile
	card    *softcard.Card
	random  *rand.Rand

	mu       sync.Mutex        // guards what follows: an auditor reads it while the wallet works
	mac2     map[string]string // by INITIALIZE answer, as first received
	taken    map[string]string // transactions that the card took, with their TAC
	declared map[string]v1.Outcome
}

func newWallet(t *testing.T, on *platform, set string, number uint64) *wallet {
	t.Helper()
	alg := suite.TDES
	if set == "demo-sm4" {
		alg = suite.SM4
	}
	profile, err := purse.ShippedProfile("pboc-ep")
	require.NoError(t, err)
	serial := fmt.Sprintf("%016X", 0x3105228200000000+number)
	issuer, err := keyderive.ParseFactor(demoIssuer)
	require.NoError(t, err)
	factor, err := purse.ParseCardSerial(serial)
	require.NoError(t, err)
	keys, err := softcard.CardKeys(alg, softcard.TestOnlyMasters(), 1, issuer, factor)
	require.NoError(t, err)
	card, err := softcard.Personalise(softcard.Options{
		Algorithm: alg, Profile: profile, Serial: serial, Keys: keys, Random: crand.Reader, EP: softcard.Account{Balance: 1000, Online: 7},
	})
	require.NoError(t, err)
	w := &wallet{
		t: t, on: on, set: set, serial: serial, profile: profile, card: card, random: rand.New(rand.NewPCG(number, 1)),
		mac2: map[string]string{}, taken: map[string]string{}, declared: map[string]v1.Outcome{},
	}
	w.powerUp()
	return w
}

// powerUp is what a reader does first.
func (w *wallet) powerUp() {
	w.card.Reset()
	aid, err := purse.SelectApplication(softcard.DefaultAID())
	assert.NoError(w.t, err)
	w.send(aid)
}

func (w *wallet) send(a purse.APDU) []byte {
	answer, sw, err := w.card.Send(a)
	assert.NoError(w.t, err)
	assert.Equal(w.t, purse.SWOK, sw, "card %s: %v", w.serial, a)
	return answer
}

// attempt is one INITIALIZE of the card and the request that goes with it.
type attempt struct {
	id      string
	init    string
	request *v1.AuthorizeLoadRequest
}

// initialize begins a load of a random amount. Half of the requests leave date and time to the signer.
func (w *wallet) initialize() attempt {
	amount := purse.Fen(1 + w.random.IntN(100))
	terminal := purse.Terminal{1, 2, 3, 4, byte(w.random.Uint32()), byte(w.random.Uint32())}
	command, err := purse.InitializeForLoad(w.profile, purse.EP, amount, terminal)
	assert.NoError(w.t, err)
	raw := w.send(command)
	a := attempt{init: plainHex(raw)}
	if init, err := purse.ParseLoadInit(raw); assert.NoError(w.t, err) {
		a.id = fmt.Sprintf("%s/%s/EP/LOAD/%v/%v", w.set, w.serial, init.Counter, init.Random)
	}
	a.request = &v1.AuthorizeLoadRequest{
		KeySet: w.set, CardSerial: w.serial, Purse: v1.Purse_PURSE_EP, AmountFen: uint64(amount), TerminalId: terminal.String(),
		InitializeResponse: a.init,
	}
	if w.random.IntN(2) == 0 {
		a.request.Date, a.request.Time = storyDate, storyTime
	}
	return a
}

// persist calls until there is an outcome, as a platform whose transaction hangs on it. Only answers of a token or store that
// is away, and connections that break, are tried again.
func persist[T any](w *wallet, ctx context.Context, call func(context.Context, pursekeeperv1connect.SignerServiceClient) (T, error)) (T, error) {
	for {
		if err := ctx.Err(); err != nil {
			var none T
			return none, err
		}
		try, cancel := context.WithTimeout(ctx, 10*time.Second)
		answer, err := call(try, *w.on.client.Load())
		cancel()
		if err == nil {
			return answer, nil
		}
		w.on.failures.Add(1)
		if connect.IsWireError(err) {
			assert.Contains(w.t, []connect.Code{connect.CodeUnavailable, connect.CodeResourceExhausted, connect.CodeDeadlineExceeded,
				connect.CodeCanceled}, connect.CodeOf(err), "%v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// authorize asks for MAC2 until there is an outcome. A MAC2 that arrives twice must be the same.
func (w *wallet) authorize(ctx context.Context, a attempt) (*v1.AuthorizeLoadResponse, error) {
	var begin time.Time
	answer, err := persist(w, ctx, func(ctx context.Context, c pursekeeperv1connect.SignerServiceClient) (*v1.AuthorizeLoadResponse, error) {
		begin = time.Now()
		return c.AuthorizeLoad(ctx, a.request)
	})
	if err != nil {
		return nil, err
	}
	w.proved(answer.Settled)
	if answer.Outcome != v1.Outcome_OUTCOME_APPROVED {
		assert.Empty(w.t, answer.Mac2)
		return answer, nil
	}
	w.on.loads.Add(1)
	w.on.approved.Store(begin.UnixNano())
	assert.Equal(w.t, a.id, answer.TransactionId)
	w.mu.Lock()
	defer w.mu.Unlock()
	if before, known := w.mac2[a.init]; known {
		assert.Equal(w.t, before, answer.Mac2, "one INITIALIZE answer, two MAC2s: %s", a.id)
	}
	w.mac2[a.init] = answer.Mac2
	return answer, nil
}

// credit gives the card its command. The card must take every MAC2: a wrong one is what this project is about.
func (w *wallet) credit(a attempt, command string) (tac string) {
	raw, err := hex.DecodeString(command)
	assert.NoError(w.t, err)
	apdu, err := purse.ParseAPDU(raw)
	assert.NoError(w.t, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	assert.NotEqual(w.t, v1.Outcome_OUTCOME_NOT_APPLIED, w.declared[a.id], "declared not applied before it could have been taken: %s", a.id)
	tac = plainHex(w.send(apdu))
	w.taken[a.id] = tac
	return tac
}

// proved holds what an answer proves about earlier transactions against the card.
func (w *wallet) proved(settled []*v1.Settled) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range settled {
		_, taken := w.taken[s.TransactionId]
		switch s.Outcome {
		case v1.Outcome_OUTCOME_VERIFIED, v1.Outcome_OUTCOME_APPLIED:
			assert.True(w.t, taken, "%v, and the card did not take it: %s", s.Outcome, s.TransactionId)
		case v1.Outcome_OUTCOME_NOT_APPLIED:
			assert.False(w.t, taken, "%v, and the card took it: %s", s.Outcome, s.TransactionId)
		default:
			assert.Equal(w.t, v1.Outcome_OUTCOME_UNDETERMINED, s.Outcome, s.TransactionId)
		}
		w.declared[s.TransactionId] = s.Outcome
	}
}

func (w *wallet) confirm(ctx context.Context, id, tac string) error {
	answer, err := persist(w, ctx, func(ctx context.Context, c pursekeeperv1connect.SignerServiceClient) (*v1.ConfirmLoadResponse, error) {
		return c.ConfirmLoad(ctx, &v1.ConfirmLoadRequest{TransactionId: id, Tac: tac})
	})
	if err != nil {
		return err
	}
	assert.Equal(w.t, v1.Outcome_OUTCOME_VERIFIED, answer.Outcome, "%s: %s", id, answer.Detail)
	w.proved(answer.Settled)
	return nil
}

// load is one whole load without mishap of the wallet's own.
func (w *wallet) load(ctx context.Context) error {
	a := w.initialize()
	answer, err := w.authorize(ctx, a)
	if err != nil {
		return err
	}
	if !assert.Equal(w.t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome, "%s: %s", a.id, answer.Detail) {
		return nil
	}
	return w.confirm(ctx, a.id, w.credit(a, answer.Command))
}

// traffic has every wallet work until stop, which waits for them.
func traffic(wallets []*wallet, work func(*wallet, context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, w := range wallets {
		group.Go(func() {
			for ctx.Err() == nil && !w.t.Failed() {
				if err := work(w, ctx); err != nil {
					assert.ErrorIs(w.t, err, context.Canceled)
				}
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
	}
}

// wallets are n cards, of both key sets in turn.
func wallets(t *testing.T, on *platform, n int) (all []*wallet) {
	t.Helper()
	for i := range n {
		all = append(all, newWallet(t, on, []string{"demo", "demo-sm4"}[i%2], uint64(i)))
	}
	return all
}

// approvedSince waits for a MAC2 whose request began after that moment.
func (p *platform) approvedSince(t *testing.T, moment time.Time, limit time.Duration) {
	t.Helper()
	for p.approved.Load() <= moment.UnixNano() {
		require.Less(t, time.Since(moment), limit, "no load is approved again")
		require.False(t, t.Failed())
		time.Sleep(time.Millisecond)
	}
}
