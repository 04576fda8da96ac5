package hsm

import (
	"context"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// A token that derives nothing readable is believed its own check value, which is compared as ever.
func TestCheckValueOfAHardenedToken(t *testing.T) {
	token, control, keys := faulty(t, nil)
	control.Set(hsmtest.Fault{Function: "C_DeriveKey", From: 2, Code: pkcs11.CKR_TEMPLATE_INCONSISTENT}) // after the known-answer test
	next(t, token, classDevice)
	require.NoError(t, token.Ready(context.Background()))
	other := keys[0].Spec()
	other.KCV = kcv.Value{1, 2, 3}
	g, err := token.generation()
	require.NoError(t, err)
	check := func() (v kcv.Value, err error) {
		onAnchor(t, token, func(s *session) error {
			e, failed := g.entry(other.Label)
			require.NoError(t, failed)
			v, err = s.checkValue(e.dialect, e.master.key, mayDerive)
			wrong := &entry{spec: other, right: e.right, dialect: e.dialect, master: e.master}
			if err == nil {
				assert.ErrorIs(t, s.compareCheckValue(wrong), ErrKCVMismatch)
			}
			return nil
		})
		return v, err
	}
	got, err := check()
	require.NoError(t, err)
	assert.Equal(t, keys[0].Spec().KCV, got)
	for code, want := range map[uint]string{
		pkcs11.CKR_ATTRIBUTE_TYPE_INVALID: "CKR_TEMPLATE_INCONSISTENT", // it has none: the refusal stands
		pkcs11.CKR_DEVICE_ERROR:           "CKR_DEVICE_ERROR",
	} {
		control.Set(hsmtest.Fault{Function: "C_GetAttributeValue", Code: code})
		_, err = check()
		assert.ErrorContains(t, err, want)
	}
	control.Clear()
	contractComputes(t, suite.TDES, keys[0])
}

// A refusal to derive and a refusal to be read are one; a fault is neither.
func TestCheckValueThatIsDerivedAndNotGiven(t *testing.T) {
	token, control, keys := faulty(t, nil)
	before := objects(t, token)
	g, err := token.generation()
	require.NoError(t, err)
	e, err := g.entry(keys[0].Spec().Label)
	require.NoError(t, err)
	control.Set(hsmtest.Fault{Function: "C_GetAttributeValue", To: 1, Code: pkcs11.CKR_ATTRIBUTE_SENSITIVE})
	onAnchor(t, token, func(s *session) error {
		got, err := s.checkValue(e.dialect, e.master.key, mayDerive)
		assert.Equal(t, e.spec.KCV, got)
		return err
	})
	assert.Equal(t, before, objects(t, token), "what was derived is destroyed")
}

// CKA_CHECK_VALUE has three bytes or is not filled (rule 10).
func TestFilledCheckValue(t *testing.T) {
	for n := range 6 {
		v, known, err := filledValue([]byte{1, 2, 3, 4, 5}[:n])
		assert.Equal(t, n == kcv.Size, known, n)
		switch n {
		case 0:
			assert.NoError(t, err)
		case kcv.Size:
			assert.NoError(t, err)
			assert.Equal(t, kcv.Value{1, 2, 3}, v)
		default:
			assert.ErrorIs(t, err, ErrAttributes)
		}
	}
}

// The fold's test is the 3DES suite's alone: SM4 never folds, on a token that folds too.
func TestFeaturesOfAFoldingKind(t *testing.T) {
	for alg, folds := range map[suite.Algorithm]bool{suite.TDES: true, suite.SM4: false} {
		spec := KeySpec{Kind: keyderive.KindTAC, Algorithm: alg, Boundary: keyderive.BoundaryToken}
		require.True(t, spec.Kind.Folds())
		got := spec.features(Profile{XORKeys: 1})
		if folds {
			assert.Contains(t, got, feature{alg, useXOR})
		} else {
			assert.NotContains(t, got, feature{alg, useXOR})
		}
		for _, f := range got {
			_, known := answers[f]
			assert.True(t, known, f)
		}
	}
}

// The sealing key is one that this package made: of 32 bytes, inside the token.
func TestSealingKeysRefused(t *testing.T) {
	for name, create := range map[string]func(*session) error{
		"CKA_LOCAL": func(s *session) error {
			_, err := s.module.ctx.CreateObject(s.handle, rawKey(kekLabel, bytesOf(t, loadMaster+tacMaster), map[uint]any{
				pkcs11.CKA_KEY_TYPE: pkcs11.CKK_AES, pkcs11.CKA_DERIVE: false, pkcs11.CKA_ENCRYPT: true, pkcs11.CKA_DECRYPT: true}))
			return err
		},
		"CKA_VALUE_LEN": func(s *session) error {
			_, err := s.generate(pkcs11.CKM_AES_KEY_GEN, 16, pkcs11.CKK_AES, onToken|mayEncrypt|mayDecrypt, kekLabel)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			token := openToken(t, configOf(hsmtest.NewToken(t)))
			onAnchor(t, token, create)
			master := secretOf(t, loadMaster)
			defer master.Wipe()
			err := token.ImportMaster(context.Background(), specOf(t, "sealed", keyderive.KindLoad, suite.TDES, keyderive.BoundaryProcess, 1, loadMaster), master)
			require.ErrorIs(t, err, ErrAttributes)
			assert.ErrorContains(t, err, name)
		})
	}
}
