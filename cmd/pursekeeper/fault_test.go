package main

import (
	"net/http"
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
)

// faulty is a serve child behind the fault module, and cards that load without pause.
type faulty struct {
	*served
	control *hsmtest.Control
	on      *platform
	cards   []*wallet
}

func newFaulty(t *testing.T, edits ...edit) *faulty {
	t.Helper()
	h := newHome(t)
	token, control := hsmtest.NewFaultToken(t)
	f := &faulty{control: control, on: &platform{}}
	f.served = serveChild(h, h.config("faulty.yaml", append([]edit{behindFaults(token), aside(t)}, edits...)...), withEnv(token.Env()...))
	f.on.use(f.served)
	f.cards = wallets(t, f.on, 4)
	stop := traffic(f.cards, (*wallet).load)
	t.Cleanup(stop)
	f.on.approvedSince(t, time.Now(), patience)
	return f
}

// hits waits until a request has failed since, or the fault has been met that often: the destruction of a key that fails costs
// no answer.
func (f *faulty) hits(t *testing.T, function string, failures int64, calls uint64) {
	t.Helper()
	eventually(t, "the fault is met", func() bool {
		return f.on.failures.Load() > failures || f.control.Calls(function) >= calls+20
	})
}

// recovers clears the fault and waits for a MAC2.
func (f *faulty) recovers(t *testing.T) {
	t.Helper()
	f.control.Clear()
	f.on.approvedSince(t, time.Now(), recoveryLimit)
}

// returnCode is one of PKCS#11 v2.40 after which the session, or more, is lost.
type returnCode struct {
	name string
	code uint
}

var returnCodes = []returnCode{
	{"CKR_HOST_MEMORY", 0x02}, {"CKR_SLOT_ID_INVALID", 0x03}, {"CKR_GENERAL_ERROR", 0x05}, {"CKR_FUNCTION_FAILED", 0x06},
	{"CKR_NEED_TO_CREATE_THREADS", 0x09}, {"CKR_CANT_LOCK", 0x0A}, {"CKR_DEVICE_ERROR", 0x30}, {"CKR_DEVICE_MEMORY", 0x31},
	{"CKR_DEVICE_REMOVED", 0x32}, {"CKR_FUNCTION_CANCELED", 0x50}, {"CKR_KEY_HANDLE_INVALID", 0x60}, {"CKR_KEY_CHANGED", 0x65},
	{"CKR_OBJECT_HANDLE_INVALID", 0x82}, {"CKR_OPERATION_ACTIVE", 0x90}, {"CKR_OPERATION_NOT_INITIALIZED", 0x91},
	{"CKR_SESSION_CLOSED", 0xB0}, {"CKR_SESSION_COUNT", 0xB1}, {"CKR_SESSION_HANDLE_INVALID", 0xB3},
	{"CKR_SESSION_READ_WRITE_SO_EXISTS", 0xB8}, {"CKR_TOKEN_NOT_PRESENT", 0xE0}, {"CKR_TOKEN_NOT_RECOGNIZED", 0xE1},
	{"CKR_UNWRAPPING_KEY_HANDLE_INVALID", 0xF0}, {"CKR_USER_NOT_LOGGED_IN", 0x101}, {"CKR_USER_ANOTHER_ALREADY_LOGGED_IN", 0x104},
	{"CKR_USER_TOO_MANY_TYPES", 0x105}, {"CKR_WRAPPING_KEY_HANDLE_INVALID", 0x113}, {"CKR_BUFFER_TOO_SMALL", 0x150},
	{"CKR_CRYPTOKI_NOT_INITIALIZED", 0x190}, {"CKR_CRYPTOKI_ALREADY_INITIALIZED", 0x191}, {"CKR_MUTEX_BAD", 0x1A0},
	{"CKR_MUTEX_NOT_LOCKED", 0x1A1}, {"CKR_FIPS_SELF_TEST_FAILED", 0x1B6}, {"CKR_LIBRARY_LOAD_FAILED", 0x1B7},
}

// sites are the calls that a load makes, each with what it is for.
var sites = []string{"C_DeriveKey", "C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt", "C_DestroyObject"}

// The list above is all that package hsm puts into the classes session, stale and device.
func TestFaultsKnowEveryReturnCode(t *testing.T) {
	source, err := os.ReadFile("../../hsm/returncodes.go")
	require.NoError(t, err)
	var want, have []string
	for _, row := range regexp.MustCompile(`pkcs11\.(CKR_\w+): +class(?:Session|Stale|Device)\b`).FindAllSubmatch(source, -1) {
		want = append(want, string(row[1]))
	}
	for _, c := range returnCodes {
		have = append(have, c.name)
	}
	require.Greater(t, len(want), 30)
	assert.ElementsMatch(t, want, have)
}

// Whatever the token answers in the middle of traffic: no wrong MAC, and MACs again within the limit once it is well.
func TestFaultsOfEveryReturnCode(t *testing.T) {
	f := newFaulty(t)
	for i, c := range append(returnCodes, returnCode{"of a vendor", 0x80000001}) {
		site := sites[i%len(sites)]
		failures, calls := f.on.failures.Load(), f.control.Calls(site)
		f.control.Set(hsmtest.Fault{Function: site, Code: c.code, AfterCall: i%4 == 3})
		f.hits(t, site, failures, calls)
		f.recovers(t)
		require.False(t, t.Failed(), "%s at %s", c.name, site)
	}
	assert.Greater(t, f.metric("token_recoveries_total"), 20.0)
	assert.Greater(t, f.metric("token_sessions_discarded_total"), 5.0)
	f.ends(t)
}

// ends sees that the process lived through it, kept the rules, and stops as it should.
func (f *faulty) ends(t *testing.T) {
	t.Helper()
	require.True(t, f.ready())
	assert.Zero(t, f.metric("token_keys_failed"))
	assert.Zero(t, f.metric("token_pin_latched"))
	rulesKept(t, f.control)
	assert.Zero(t, f.control.Stats().PINRefused)
}

// Faults in the middle of a recovery: it tries again.
func TestFaultsOfTheRecovery(t *testing.T) {
	f := newFaulty(t)
	const deviceError = 0x30
	for _, site := range []string{"C_OpenSession", "C_Login", "C_FindObjectsInit", "C_FindObjects", "C_GetAttributeValue", "C_CreateObject",
		"C_GetSlotList", "C_GetTokenInfo", "C_Initialize", "C_Finalize"} {
		failures := f.on.failures.Load()
		f.control.Set(hsmtest.Fault{Function: site, To: 2, Code: deviceError})
		f.control.Set(hsmtest.Fault{Function: "C_DeriveKey", To: 1, Code: deviceError})
		f.hits(t, "C_DeriveKey", failures, f.control.Calls("C_DeriveKey"))
		f.recovers(t)
		require.False(t, t.Failed(), site)
	}
	f.ends(t)
}

func TestFaultsThatLoseTheToken(t *testing.T) {
	f := newFaulty(t)
	for range 3 {
		f.control.LoseSessions()
		f.on.approvedSince(t, time.Now(), recoveryLimit)
	}
	assert.GreaterOrEqual(t, f.metric("token_generation"), 4.0)

	failures := f.on.failures.Load()
	f.control.RemoveToken(time.Second)
	time.Sleep(500 * time.Millisecond)
	assert.Greater(t, f.on.failures.Load(), failures, "refused at once, not held")
	assert.False(t, f.ready())
	time.Sleep(500 * time.Millisecond)
	f.on.approvedSince(t, time.Now(), recoveryLimit)
	f.ends(t)
}

// A PIN that the token refuses in a recovery is tried once, whatever the traffic, until an operator says otherwise.
func TestFaultsOfThePIN(t *testing.T) {
	f := newFaulty(t)
	for _, code := range []uint{0xA0, 0xA1, 0xA3, 0xA4} { // incorrect, invalid, expired, locked
		f.control.Set(hsmtest.Fault{Function: "C_Login", Code: code})
		logins := f.control.Stats().Logins
		f.control.LoseSessions()
		eventually(t, "one login", func() bool { return f.control.Stats().Logins == logins+1 })
		eventually(t, "latched", func() bool { return f.metric("token_pin_latched") == 1 })
		time.Sleep(700 * time.Millisecond)
		assert.Equal(t, logins+1, f.control.Stats().Logins, "no second try under traffic")
		status, body := f.ask("/readyz")
		assert.Equal(t, http.StatusServiceUnavailable, status)
		assert.Contains(t, body, "PIN")
		f.signal(syscall.SIGHUP) // not mended: one more try, and latched again
		eventually(t, "a second login", func() bool { return f.control.Stats().Logins == logins+2 })
		eventually(t, "latched", func() bool { return f.metric("token_pin_latched") == 1 })
		f.control.Clear()
		f.signal(syscall.SIGHUP)
		f.on.approvedSince(t, time.Now(), recoveryLimit)
		assert.Equal(t, logins+3, f.control.Stats().Logins)
	}
	rulesKept(t, f.control)
}
