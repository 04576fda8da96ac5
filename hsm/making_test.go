package hsm

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// patience is how long a slow machine may take to recover.
const patience = 30 * time.Second

func recovered(t *testing.T, token *Token) {
	t.Helper()
	require.Eventually(t, func() bool { return token.Ready(context.Background()) == nil }, patience, tick)
}

// changing are the functions that leave something in the token, or take it away.
var changing = map[string]bool{"C_CreateObject": true, "C_GenerateKey": true, "C_DeriveKey": true, "C_WrapKey": true, "C_UnwrapKey": true,
	"C_DestroyObject": true}

// callsOf counts what f calls of each function of the token.
func callsOf(t *testing.T, control *hsmtest.Control, f func()) map[string]uint64 {
	t.Helper()
	before := map[string]uint64{}
	functions := []string{"C_CreateObject", "C_GenerateKey", "C_DeriveKey", "C_WrapKey", "C_UnwrapKey", "C_DestroyObject", "C_FindObjectsInit",
		"C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue", "C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt", "C_GenerateRandom"}
	for _, function := range functions {
		before[function] = control.Calls(function)
	}
	f()
	calls := map[string]uint64{}
	for _, function := range functions {
		if n := control.Calls(function) - before[function]; n > 0 {
			calls[function] = n
		}
	}
	return calls
}

// faultsOf are faults at every call that changes the token, before the token hears of it and after it has done the work, and at the
// first, middle and last call of the others.
func faultsOf(calls map[string]uint64) (faults []hsmtest.Fault) {
	for function, n := range calls {
		for call := uint64(1); call <= n; call++ {
			if !changing[function] && call != 1 && call != n && call != n/2 {
				continue
			}
			faults = append(faults, hsmtest.Fault{Function: function, From: call, To: call, Code: pkcs11.CKR_DEVICE_ERROR})
			if changing[function] {
				faults = append(faults,
					hsmtest.Fault{Function: function, From: call, To: call, Code: pkcs11.CKR_DEVICE_ERROR, AfterCall: true},
					hsmtest.Fault{Function: function, From: call, To: call, Code: pkcs11.CKR_FUNCTION_CANCELED, AfterCall: true},
					hsmtest.Fault{Function: function, From: call, To: call, LoseSessions: true, AfterCall: true})
			}
		}
	}
	return faults
}

// After a fault at any call of a making, and the recovery, the key is there whole or nothing of it is; and it can be made then.
func TestAMakingIsWholeOrNothing(t *testing.T) {
	for name, c := range map[string]struct {
		boundary keyderive.Boundary
		alg      suite.Algorithm
		change   func(*Config)
	}{
		"inside":           {keyderive.BoundaryToken, suite.TDES, nil},
		"sealed":           {keyderive.BoundaryProcess, suite.SM4, nil},
		"without key wrap": {keyderive.BoundaryCard, suite.TDES, func(c *Config) { c.Profile.NoKeyWrap = true }},
		"without a backup": {keyderive.BoundaryCard, suite.TDES, nil},
		"restored":         {keyderive.BoundaryToken, suite.TDES, nil},
		"restored sealed":  {keyderive.BoundaryProcess, suite.SM4, nil},
	} {
		t.Run(name, func(t *testing.T) {
			token, control, keys := faulty(t, c.change)
			under := importBackup(t, token)
			if name == "without a backup" {
				under = WithoutBackup()
			}
			made, copied := 0, Wrapped(nil)
			spec := func() KeySpec {
				made++
				return newSpec(fmt.Sprintf("gd/load/%d", made), keyderive.KindLoad, c.alg, c.boundary)
			}
			generate := func() (KeySpec, error) {
				spec, wrapped, err := token.GenerateMaster(context.Background(), spec(), under)
				if err == nil {
					assert.Equal(t, under.none, wrapped == nil)
				}
				copied = wrapped
				return spec, err
			}
			if name == "restored" || name == "restored sealed" {
				generate = restoring(t, token, generate, &copied)
			}
			wholeOrNothing(t, token, control, generate)
			contractComputes(t, suite.TDES, keys[0])
			rulesKept(t, control)
		})
	}
}

// restoring restores one master again and again.
func restoring(t *testing.T, token *Token, generate func() (KeySpec, error), copied *Wrapped) func() (KeySpec, error) {
	spec, err := generate()
	require.NoError(t, err)
	require.NoError(t, token.DestroyMaster(context.Background(), spec.Label, spec.KCV))
	return func() (KeySpec, error) {
		return spec, token.RestoreMaster(context.Background(), spec, escrowed(t), *copied)
	}
}

func wholeOrNothing(t *testing.T, token *Token, control *hsmtest.Control, generate func() (KeySpec, error)) {
	ctx := context.Background()
	warm, err := generate() // every mechanism is proven, so that the counted making makes its own calls alone
	require.NoError(t, err)
	require.NoError(t, token.DestroyMaster(ctx, warm.Label, warm.KCV))
	var spec KeySpec
	calls := callsOf(t, control, func() {
		spec, err = generate()
		require.NoError(t, err)
	})
	require.NoError(t, token.DestroyMaster(ctx, spec.Label, spec.KCV))
	want := durable(t, token)
	good := 0
	for _, fault := range faultsOf(calls) {
		// Known answers come anew in each generation: without them a fault would meet those, and not the making.
		proveAll(t, token)
		control.Set(fault)
		spec, err := generate()
		control.Clear()
		recovered(t, token)
		if err == nil {
			good++
			macOf(t, keyOf(t, token, spec.Label))
			require.NoError(t, token.DestroyMaster(ctx, spec.Label, spec.KCV))
		} else {
			assert.ErrorIs(t, err, ErrUnavailable, "%+v", fault)
		}
		require.Equal(t, want, durable(t, token), "%+v: %v", fault, err)
		require.Zero(t, extractables(t, token), "%+v: an extractable key", fault)
	}
	assert.Zero(t, good, "a fault that was met is no success")
	spec, err = generate()
	require.NoError(t, err)
	macOf(t, keyOf(t, token, spec.Label))
}

// proveAll has the generation prove what a making needs, by one that is refused at its end.
func proveAll(t *testing.T, token *Token) {
	t.Helper()
	onAnchor(t, token, func(s *session) error {
		g, err := token.generation()
		require.NoError(t, err)
		for _, f := range []feature{{use: useWrap}, {use: useSeal}, {suite.TDES, useDerive}, {suite.TDES, useECB}, {suite.TDES, useCBC}, {suite.TDES, useBatch}} {
			require.NoError(t, g.prove(s, f))
		}
		return nil
	})
}

// durable counts the objects that outlive a session.
func durable(t *testing.T, token *Token) (n int) {
	t.Helper()
	onAnchor(t, token, func(s *session) error {
		found, err := s.tokenObjects()
		n = len(found)
		return err
	})
	return n
}

// extractables counts keys that could leave the token.
func extractables(t *testing.T, token *Token) (n int) {
	t.Helper()
	onAnchor(t, token, func(s *session) error {
		found, err := s.findAll(pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true))
		n = len(found)
		return err
	})
	return n
}

// The same of a destruction: the key works, or a second call ends it.
func TestADestructionThatIsCutShortIsGoneOnWith(t *testing.T) {
	ctx := context.Background()
	token, control, _ := faulty(t, nil)
	under := importBackup(t, token)
	for _, boundary := range []keyderive.Boundary{keyderive.BoundaryToken, keyderive.BoundaryProcess} {
		spec, wrapped, err := token.GenerateMaster(ctx, newSpec(boundary.String()+"/1", keyderive.KindLoad, suite.TDES, boundary), under)
		require.NoError(t, err)
		calls := callsOf(t, control, func() { require.NoError(t, token.DestroyMaster(ctx, spec.Label, spec.KCV)) })
		want := durable(t, token)
		for _, fault := range faultsOf(calls) {
			require.NoError(t, token.RestoreMaster(ctx, spec, escrowed(t), wrapped))
			macOf(t, keyOf(t, token, spec.Label)) // and an issuer-level key
			control.Set(fault)
			err := token.DestroyMaster(ctx, spec.Label, spec.KCV)
			control.Clear()
			recovered(t, token)
			if err != nil {
				require.ErrorIs(t, err, ErrUnavailable, "%+v", fault)
				if err := token.DestroyMaster(ctx, spec.Label, spec.KCV); !errors.Is(err, ErrKeyNotFound) {
					require.NoError(t, err)
				}
			}
			require.Equal(t, want, durable(t, token), "%+v: %v", fault, err)
			_, err = token.Key(spec.Label)
			require.ErrorIs(t, err, ErrKeyNotFound)
		}
	}
}

// A making whose call hangs asks for a restart: a key that could leave may be in the token as long as the library is loaded. What the
// call made when it came out at last is found under the label and the id.
func TestAMakingThatHangsRestartsTheProcess(t *testing.T) {
	token, control, _ := faulty(t, hanging)
	under := importBackup(t, token)
	spec := newSpec("gd/load/1", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken)
	control.Set(hsmtest.Fault{Function: "C_UnwrapKey", From: 1, To: 1, Hang: hsmtest.HangForever})
	_, _, err := token.GenerateMaster(context.Background(), spec, under)
	require.ErrorIs(t, err, ErrUnavailable)
	restarts(t, token)
	assert.Equal(t, []string{spec.Label}, unfinished(token))
	settle(t, token, control)
	rulesKept(t, control)
}
