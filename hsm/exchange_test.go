package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// exchangeTokens are the tokens that answer an exchange at once, one with two-key DES as L‖R‖L, and one whose sessions take turns.
var exchangeTokens = map[string]func(testing.TB) Config{
	"SoftHSM": func(t testing.TB) Config {
		config := configOf(hsmtest.NewToken(t))
		config.Profile.Serial = true
		return config
	},
	"three-key DES": func(t testing.TB) Config {
		config := configOf(hsmtest.NewToken(t))
		config.Profile.ThreeKeyDES = true
		return config
	},
	"SM4 token": bothTokens["SM4 token"],
}

func drawExchange(t *rapid.T) keyderive.Exchange {
	bytes := func(name string, from, to int) []byte { return rapid.SliceOfN(rapid.Byte(), from, to).Draw(t, name) }
	return keyderive.Exchange{
		Card: keyderive.Factor(bytes("card", 8, 8)), In: keyderive.Factor(bytes("in", 8, 8)),
		Proof: bytes("proof", 0, 70), Got: keyderive.MAC(bytes("got", 4, 4)), Issue: bytes("issue", 0, 70),
	}
}

// proofOf is the MAC that x's card would send.
func proofOf(t require.TestingT, memory keyderive.Key, x keyderive.Exchange) (mac keyderive.MAC) {
	require.NoError(t, keyderive.NewMaster(memory, demoPath).WithCard(context.Background(), x.Card, func(card keyderive.Card) error {
		session, err := card.Session(x.In)
		if err == nil {
			mac, err = session.MAC(x.Proof)
		}
		return err
	}))
	return mac
}

// At once is step by step, on the token and in memory, for any input and any MAC.
func TestAnExchangeIsItsSteps(t *testing.T) {
	for name, config := range exchangeTokens {
		t.Run(name, func(t *testing.T) { isItsSteps(t, config(t)) })
	}
}

func isItsSteps(t *testing.T, config Config) {
	token := openToken(t, config)
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		if config.Profile.Strictest(keyderive.KindLoad, alg) != keyderive.BoundaryToken {
			continue
		}
		memory := memoryKey(t, alg, loadMaster)
		for _, kind := range []keyderive.Kind{keyderive.KindLoad, keyderive.KindUnload, keyderive.KindOverdraft} {
			key := importKey(t, token, specOf(t, fmt.Sprint(kind, alg), kind, alg, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
			t.Run(fmt.Sprintf("%v %v", alg, kind), func(t *testing.T) {
				rapid.Check(t, func(t *rapid.T) {
					x := drawExchange(t)
					if rapid.Bool().Draw(t, "right") {
						x.Got = proofOf(t, memory, x)
					}
					want, wrong := keyderive.NewMaster(memory, demoPath).Exchange(context.Background(), x)
					require.True(t, wrong == nil || errors.Is(wrong, keyderive.ErrMismatch))
					for _, way := range []keyderive.Key{key, stepwise{key}} {
						got, err := keyderive.NewMaster(way, demoPath).Exchange(context.Background(), x)
						require.Equal(t, want, got)
						require.Equal(t, wrong != nil, errors.Is(err, keyderive.ErrMismatch))
						require.Equal(t, wrong == nil, err == nil)
					}
				})
			})
		}
	}
}

// In a crowd everybody gets the answer to his own exchange, right and wrong MACs among each other.
func TestExchangesDoNotMix(t *testing.T) {
	for name, config := range exchangeTokens {
		t.Run(name, func(t *testing.T) {
			memory := memoryKey(t, suite.TDES, loadMaster)
			token := openToken(t, config(t))
			var keys []*Key
			for _, kind := range []keyderive.Kind{keyderive.KindLoad, keyderive.KindUnload} {
				keys = append(keys, importKey(t, token, specOf(t, kind.String(), kind, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster))
			}
			contractComputes(t, suite.TDES, keys[0])
			var group sync.WaitGroup
			for caller := range 40 {
				group.Go(func() {
					for turn := range 25 {
						x := demoLoad(t, "00000000")
						x.Card[0], x.In[1] = byte(caller), byte(turn)
						x.Issue[0] = byte(turn)
						x.Got = proofOf(t, memory, x)
						want, err := keyderive.NewMaster(memory, demoPath).Exchange(context.Background(), x)
						assert.NoError(t, err)
						if turn%5 == caller%5 {
							x.Got[caller%4] ^= 1 << (turn % 8)
						}
						got, err := keys[caller%2].Exchange(context.Background(), demoPath, x)
						if turn%5 == caller%5 {
							assert.ErrorIs(t, err, keyderive.ErrMismatch)
							want = keyderive.MAC{}
						} else {
							assert.NoError(t, err)
						}
						assert.Equal(t, want, got)
					}
				})
			}
			group.Wait()
			assert.Equal(t, uint64(1), token.Stats().Generation)
			assert.Eventually(t, func() bool { return token.Stats().InFlight+token.Stats().Waiting == 0 }, recoveryLimit, tick)
		})
	}
}

// What cannot be answered at once is said so before the token is asked, or refused as Lend refuses it.
func TestExchangesThatAreNone(t *testing.T) {
	token, control, keys := faulty(t, nil)
	tac := importKey(t, token, specOf(t, "tac", keyderive.KindTAC, suite.TDES, keyderive.BoundaryToken, 1, tacMaster), tacMaster)
	ctx, x := context.Background(), demoLoad(t, "7E1722D0")
	contractComputes(t, suite.TDES, keys[0])
	before := control.Calls("C_DeriveKey") + control.Calls("C_Encrypt")
	for _, key := range keys[1:] {
		_, err := key.Exchange(ctx, demoPath, x)
		assert.ErrorIs(t, err, keyderive.ErrUnsupported, "%v", key.Spec().Boundary)
	}
	long := x
	long.Proof = make([]byte, longestText)
	_, err := keys[0].Exchange(ctx, demoPath, long)
	assert.ErrorIs(t, err, keyderive.ErrUnsupported)
	_, err = tac.Exchange(ctx, demoPath, x)
	assert.ErrorIs(t, err, errRight)
	_, err = keys[0].Exchange(ctx, keyderive.Path{}, x)
	assert.ErrorContains(t, err, "0 issuer levels, the key set has 1")
	assert.Equal(t, before, control.Calls("C_DeriveKey")+control.Calls("C_Encrypt"))
}

// exchangeCalls are the calls of one exchange and how often each is made.
var exchangeCalls = map[string]uint64{"C_DeriveKey": 2, "C_EncryptInit": 2, "C_Encrypt": 2, "C_DestroyObject": 2}

// An exchange makes the calls that the bare loop makes, each once, and after a wrong MAC1 the same.
func TestTheCallsOfAnExchange(t *testing.T) {
	_, control, keys := faulty(t, nil)
	contractComputes(t, suite.TDES, keys[0])
	for mac1, wrong := range map[string]bool{"7E1722D0": false, "7E1722D1": true} {
		before := map[string]uint64{}
		for function := range exchangeCalls {
			before[function] = control.Calls(function)
		}
		_, err := keys[0].Exchange(context.Background(), demoPath, demoLoad(t, mac1))
		assert.Equal(t, wrong, errors.Is(err, keyderive.ErrMismatch))
		for function, times := range exchangeCalls {
			assert.Equal(t, times, control.Calls(function)-before[function], "%s after %s", function, mac1)
		}
	}
}

// Whatever call fails, and with whatever code, nobody gets half an answer, the fault has the consequence that it has step by step, and
// no key is left.
func TestEveryCallOfAnExchangeFails(t *testing.T) {
	token, control, keys := faulty(t, nil)
	key := keys[0]
	contractComputes(t, suite.TDES, key)
	for code, class := range map[pkcs11.Error]class{
		pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED: classRequest, pkcs11.CKR_OPERATION_ACTIVE: classSession,
		pkcs11.CKR_KEY_HANDLE_INVALID: classStale, pkcs11.CKR_DEVICE_ERROR: classDevice,
	} {
		for function := range exchangeCalls {
			for call := range uint64(2) {
				name := fmt.Sprintf("%v %s %d", code, function, call+1)
				before, stats := objects(t, token), token.Stats()
				control.Set(hsmtest.Fault{Function: function, From: call + 1, To: call + 1, Code: uint(code),
					AfterCall: function == "C_Encrypt" || function == "C_DestroyObject"}) // so that no operation and no object is left by it
				issued, err := key.Exchange(context.Background(), demoPath, demoLoad(t, "7E1722D0"))
				require.ErrorIs(t, err, code, name)
				assert.Equal(t, class != classRequest, errors.Is(err, ErrUnavailable), name)
				assert.Zero(t, issued, name)
				require.Eventually(t, func() bool {
					now := token.Stats()
					switch class {
					case classRequest:
						return now.Discarded == stats.Discarded && now.Generation == stats.Generation && now.State == StateReady
					case classSession:
						return now.Discarded == stats.Discarded+1 && now.Generation == stats.Generation
					default:
						return now.Generation == stats.Generation+1 && now.State == StateReady
					}
				}, recoveryLimit, tick, name)
				contractComputes(t, suite.TDES, key)
				if class < classStale { // a new generation has other objects
					assert.Equal(t, before, objects(t, token), name)
				}
			}
		}
	}
	rulesKept(t, control)
}

// A MAC1 that was compared and is wrong stays so for its caller when a destroy fails after it; the token is dealt with all the same.
func TestAWrongProofBesideAFault(t *testing.T) {
	token, control, keys := faulty(t, nil)
	contractComputes(t, suite.TDES, keys[0])
	for i, way := range []keyderive.Key{keys[0], stepwise{keys[0]}} {
		control.Set(hsmtest.Fault{Function: "C_DestroyObject", To: 1, Code: pkcs11.CKR_DEVICE_ERROR})
		_, err := loadMAC2(context.Background(), t, way, demoPath, "00000000")
		require.ErrorIs(t, err, keyderive.ErrMismatch)
		require.Eventually(t, func() bool { return token.Stats().Generation == uint64(i+2) && token.State() == StateReady }, recoveryLimit, tick)
		contractComputes(t, suite.TDES, keys[0])
	}
}

// A token that writes another length gives no MAC, and its session is not trusted any more.
func TestNoAnswerIsNone(t *testing.T) {
	c := &crossing{}
	_, result, fault := c.take(0)
	assert.ErrorIs(t, result, errNotAnswered)
	assert.ErrorIs(t, fault, errNotAnswered)
	c.list[0].state, c.list[0].at, c.list[0].fault = 3, 3, 8
	_, result, fault = c.take(0)
	assert.ErrorIs(t, result, ErrUnavailable)
	assert.Equal(t, classSession, classOf(fault))
}

// On a serial token one session at a time is at exchanges, however many there are; on another they work side by side.
func TestExchangesTakeTurns(t *testing.T) {
	for _, serial := range []bool{true, false} {
		t.Run(fmt.Sprint(serial), func(t *testing.T) {
			const sessions = 8
			token, control, keys := faulty(t, func(config *Config) { config.InFlight, config.Profile.Serial = sessions, serial })
			token.patience = recoveryLimit // on a loaded machine the others' crossings may take longer than turnTime
			contractComputes(t, suite.TDES, keys[0])
			before := control.Stats().MaxInFlight // not of exchanges
			control.Set(hsmtest.Fault{Function: "C_DeriveKey", Latency: time.Millisecond})
			stop, good := traffic(t, keys[:1], 2*sessions)
			require.Eventually(t, func() bool { return good.Load() > 200 }, recoveryLimit, tick)
			stop()
			if serial {
				assert.Equal(t, before, control.Stats().MaxInFlight)
				assert.Less(t, before, uint64(sessions))
			} else {
				assert.Equal(t, uint64(sessions), control.Stats().MaxInFlight)
			}
			assert.Eventually(t, func() bool { return len(token.current.Load().turn) == 0 }, recoveryLimit, time.Millisecond)
			rulesKept(t, control)
		})
	}
}

// crowd has the token's only session held while callers queue exchanges, so that they cross together; their errors come in the
// order of the queue. before is called while they wait.
func crowd(t *testing.T, token *Token, key *Key, n int, before func()) []error {
	t.Helper()
	contractComputes(t, suite.TDES, key) // the pace is known
	g, err := token.generation()
	require.NoError(t, err)
	held, leave := make(chan struct{}), make(chan struct{})
	go func() {
		_ = g.do(context.Background(), g.jobs, newJob(simple(func(*session) error { close(held); <-leave; return nil })))
	}()
	<-held
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			var mac2 keyderive.MAC
			if mac2, errs[i] = key.Exchange(context.Background(), demoPath, demoLoad(t, "7E1722D0")); errs[i] == nil {
				assert.Equal(t, bytesOf(t, "60B7B5B7"), mac2[:])
			}
		})
		require.Eventually(t, func() bool { return g.jobs.waiting() == i+1 }, recoveryLimit, time.Millisecond)
	}
	before()
	close(leave)
	group.Wait()
	return errs
}

func oneSession(config *Config) { config.InFlight = 1 }

// A fault of one exchange is its own: those before it have their answers, and those behind go on, on the session that replaces the lost.
func TestAFaultInACrowdIsOfOne(t *testing.T) {
	token, control, keys := faulty(t, oneSession)
	for _, code := range []pkcs11.Error{pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_SESSION_HANDLE_INVALID} {
		errs := crowd(t, token, keys[0], 8, func() {
			control.Set(hsmtest.Fault{Function: "C_Encrypt", From: 7, To: 7, Code: uint(code), AfterCall: true}) // of the fourth: MAC1
		})
		for i, err := range errs {
			if i == 3 {
				assert.ErrorIs(t, err, code)
			} else {
				assert.NoError(t, err, i)
			}
		}
	}
	assert.Equal(t, uint64(1), token.Stats().Generation)
	assert.Equal(t, uint64(1), token.Stats().Discarded)
	rulesKept(t, control)
}

// The end of the generation in a crowd answers everybody.
func TestTheEndOfTheGenerationInACrowd(t *testing.T) {
	token, control, keys := faulty(t, oneSession)
	errs := crowd(t, token, keys[0], 8, func() {
		control.Set(hsmtest.Fault{Function: "C_DeriveKey", From: 8, To: 8, Code: pkcs11.CKR_DEVICE_REMOVED}) // of the fourth: its session key
	})
	for i, err := range errs {
		if i < 3 {
			assert.NoError(t, err, i)
		} else {
			assert.ErrorIs(t, err, ErrUnavailable, i)
		}
	}
	require.Eventually(t, func() bool { return token.Stats().Generation == 2 && token.State() == StateReady }, recoveryLimit, tick)
	contractComputes(t, suite.TDES, keys[0])
	assert.Eventually(t, func() bool { return token.Stats().InFlight == 0 }, recoveryLimit, tick)
	rulesKept(t, control)
}

// The hang limit is each call's own: an exchange of slow calls takes longer, and is not written off.
func TestSlowCallsAreNotWrittenOff(t *testing.T) {
	token, control, keys := faulty(t, hanging)
	contractComputes(t, suite.TDES, keys[0])
	control.Set(hsmtest.Fault{Function: hsmtest.EveryFunction, Latency: testHang / 4})
	begin := time.Now()
	_, err := keys[0].Exchange(context.Background(), demoPath, demoLoad(t, "7E1722D0"))
	require.NoError(t, err)
	assert.Greater(t, time.Since(begin), testHang)
	assert.Zero(t, token.Stats().WrittenOff)
	control.Clear()
}

// A call that hangs is the last of its crossing, wherever it is: all who cross are answered, another session stands in, and when
// the call comes out its session makes no other.
func TestEveryCallOfAnExchangeHangs(t *testing.T) {
	for function := range exchangeCalls {
		for _, serial := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s %v", function, serial), func(t *testing.T) {
				token, control, keys := faulty(t, func(config *Config) { hanging(config); config.Profile.Serial = serial })
				contractComputes(t, suite.TDES, keys[0])
				require.ErrorIs(t, hangOne(t, control, keys[0], function), ErrUnavailable)
				for range 5 {
					contractComputes(t, suite.TDES, keys[0])
				}
				assert.Equal(t, 1, token.Stats().Hanging)
				assert.Eventually(t, func() bool { return len(token.current.Load().turn) == 0 }, recoveryLimit, time.Millisecond, "the turn of the call that hangs")
				made := calls(control)
				settle(t, token, control)
				assert.LessOrEqual(t, calls(control)-made, uint64(1), "C_Encrypt after its C_EncryptInit, which are one call here")
				contractComputes(t, suite.TDES, keys[0])
				assert.Equal(t, uint64(1), token.Stats().Generation)
				assert.Eventually(t, func() bool { return token.Stats().InFlight == 0 }, recoveryLimit, tick)
				rulesKept(t, control)
			})
		}
	}
}

func calls(control *hsmtest.Control) (n uint64) {
	for function := range exchangeCalls {
		n += control.Calls(function)
	}
	return n
}

// A hang in a crowd answers everybody of the crossing.
func TestAHangInACrowd(t *testing.T) {
	token, control, keys := faulty(t, func(config *Config) { hanging(config); config.InFlight = 1 })
	errs := crowd(t, token, keys[0], 5, func() {
		control.Set(hsmtest.Fault{Function: "C_Encrypt", From: 3, To: 3, Hang: hsmtest.HangForever})
	})
	for i, err := range errs {
		assert.ErrorIs(t, err, ErrUnavailable, i)
	}
	restarts(t, token) // one call in flight is the cap
	settle(t, token, control)
	rulesKept(t, control)
}

// Who leaves a crossing leaves the others to theirs, and what he held is given back.
func TestWhoLeavesACrossing(t *testing.T) {
	token, control, keys := faulty(t, oneSession)
	contractComputes(t, suite.TDES, keys[0])
	control.Set(hsmtest.Fault{Function: "C_Encrypt", Latency: 50 * time.Millisecond})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	_, err := keys[0].Exchange(ctx, demoPath, demoLoad(t, "7E1722D0"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	contractComputes(t, suite.TDES, keys[0])
	g, err := token.generation()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		g.levels.mu.Lock()
		defer g.levels.mu.Unlock()
		for _, p := range g.levels.keys {
			if p.uses != 0 {
				return false
			}
		}
		return true
	}, recoveryLimit, tick)
}

// A session that is opened in the place of a lost one may hang as well: those who waited behind the fault are answered all the same, and
// the turn is given back.
func TestAHangBehindAFaultInACrowd(t *testing.T) {
	const hang = 20 * testHang
	token, control, keys := faulty(t, func(config *Config) { hanging(config); config.InFlight, config.Profile.Serial = 1, true })
	g, err := token.generation()
	require.NoError(t, err)
	begin := time.Now()
	errs := crowd(t, token, keys[0], 8, func() {
		control.Set(hsmtest.Fault{Function: "C_Encrypt", From: 7, To: 7, Code: pkcs11.CKR_SESSION_HANDLE_INVALID, AfterCall: true})
		control.Set(hsmtest.Fault{Function: "C_OpenSession", To: 1, Hang: hang})
	})
	assert.Less(t, time.Since(begin), hang/2)
	for i, err := range errs {
		if i < 3 {
			assert.NoError(t, err, i)
		} else {
			assert.ErrorIs(t, err, ErrUnavailable, i)
		}
	}
	assert.Empty(t, g.turn)
	restarts(t, token) // one call in flight is the cap
	settle(t, token, control)
	assert.Eventually(t, func() bool { return token.Stats().InFlight == 0 }, recoveryLimit, tick)
	rulesKept(t, control)
}

// A token that turns slow in a crossing does not keep an ended generation's session at work for all who are in it.
func TestTheEndOfTheGenerationInASlowCrossing(t *testing.T) {
	token, control, keys := faulty(t, oneSession)
	g, err := token.generation()
	require.NoError(t, err)
	ended := make(chan struct{})
	errs := crowd(t, token, keys[0], 8, func() {
		control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 4, Latency: 200 * time.Millisecond})
		before := control.Calls("C_DeriveKey")
		go func() {
			defer close(ended)
			assert.Eventually(t, func() bool { return control.Calls("C_DeriveKey") > before }, recoveryLimit, time.Millisecond)
			g.fail(classStale, pkcs11.Error(pkcs11.CKR_USER_NOT_LOGGED_IN))
		}()
	})
	<-ended
	assert.NoError(t, errs[0])
	for i, err := range errs[1:] {
		assert.ErrorIs(t, err, ErrUnavailable, i+1)
	}
	require.Eventually(t, func() bool { return token.Stats().Generation == 2 && token.State() == StateReady }, recoveryLimit, tick)
	contractComputes(t, suite.TDES, keys[0])
	assert.Eventually(t, func() bool { return token.Stats().InFlight == 0 }, recoveryLimit, tick)
	rulesKept(t, control)
}
