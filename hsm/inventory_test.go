package hsm

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/miekg/pkcs11"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm/hsmtest"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

func inventoryOf(t testing.TB, token *Token) Inventory {
	t.Helper()
	inventory, err := token.Inventory(context.Background())
	require.NoError(t, err)
	return inventory
}

// What was made as the catalogue says differs in nothing, on every token and at every boundary.
func TestInventoryOfARightToken(t *testing.T) {
	for name, config := range bothTokens {
		t.Run(name, func(t *testing.T) { rightInventory(t, openToken(t, config(t))) })
	}
}

func rightInventory(t *testing.T, token *Token) { rightInventoryOf(t, token, importBackup(t, token)) }

// rightInventoryOf adds masters to a token, and looks at them and at those that are configured.
func rightInventoryOf(t *testing.T, token *Token, under Backup) {
	ctx := context.Background()
	_, signs := token.SigningKey(ctx, "checkpoint")
	specs := token.catalogue()
	for _, alg := range []suite.Algorithm{suite.TDES, suite.SM4} {
		for _, boundary := range allBoundaries {
			if boundary < token.Strictest(keyderive.KindLoad, alg) {
				continue
			}
			for levels := range 2 {
				spec := newSpec(fmt.Sprintf("%v %v %d", alg, boundary, levels), keyderive.KindLoad, alg, boundary)
				spec.IssuerLevels = levels
				spec, _, err := token.GenerateMaster(ctx, spec, under)
				require.NoError(t, err)
				specs = append(specs, spec)
			}
		}
	}
	inventory := inventoryOf(t, token)
	assert.Empty(t, inventory.Compare(specs))
	assert.Empty(t, inventory.Duplicates())
	for _, spec := range specs {
		assert.Equal(t, []string{spec.Label}, inventory.Holders(spec.Algorithm, spec.KCV))
	}
	kinds := map[ObjectKind]int{}
	for _, o := range inventory.Objects {
		kinds[o.Kind]++
		assert.Contains(t, o.Attributes(), "CKA_TOKEN", o.Label)
		assert.NotContains(t, o.Attributes(), "CKA_EXTRACTABLE", o.Label)
		if o.Kind == ObjectBackup {
			assert.Equal(t, under.kcv, o.KCV)
			assert.True(t, o.HasKCV)
		}
	}
	assert.Equal(t, len(specs), kinds[ObjectMaster]+kinds[ObjectSealed])
	assert.Equal(t, 1, kinds[ObjectSealing])
	assert.Equal(t, 1, kinds[ObjectBackup])
	if signs == nil {
		assert.Equal(t, 1, kinds[ObjectPrivate])
		assert.Equal(t, 1, kinds[ObjectPublic])
	}
	assert.Zero(t, kinds[ObjectOther])
	assert.Equal(t, uint64(1), token.Stats().Generation)
}

// Each difference is named, by kind and label.
func TestInventoryNamesEveryDifference(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	spec := func(label string) KeySpec {
		return specOf(t, label, keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster)
	}
	made := map[string]KeySpec{}
	for _, label := range []string{"right", "missing", "weaker", "may encrypt", "other value", "other id", "no id", "doubled", "broken", "sealed", "other bytes"} {
		made[label] = spec(label)
	}
	put := func(label string, change map[uint]any) {
		createRaw(t, token, rawKey(label, bytesOf(t, loadMaster), change))
	}
	id := ObjectID{1, 2, 3}
	put("right", nil)
	put("weaker", map[uint]any{pkcs11.CKA_MODIFIABLE: true})
	put("may encrypt", map[uint]any{pkcs11.CKA_ENCRYPT: true})
	put("other value", nil)
	changed := made["other value"]
	changed.KCV = kcv.Value{1, 2, 3}
	made["other value"] = changed
	for label, had := range map[string]any{"other id": ObjectID{9}, "no id": nil} {
		changed := made[label]
		changed.ID = id
		made[label] = changed
		change := map[uint]any{}
		if had != nil {
			other := had.(ObjectID)
			change[pkcs11.CKA_ID] = other[:]
		}
		put(label, change)
	}
	put("doubled", nil)
	put("doubled", nil)
	put("broken", map[uint]any{pkcs11.CKA_DERIVE: false})
	put("extra", nil)
	put("sealed", nil)
	sealed := made["sealed"]
	sealed.Boundary = keyderive.BoundaryProcess
	made["sealed"] = sealed
	put("other bytes", map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_GENERIC_SECRET})

	var specs []KeySpec
	for _, spec := range made {
		specs = append(specs, spec)
	}
	inventory := inventoryOf(t, token)
	got := map[string][]DifferenceKind{}
	for _, d := range inventory.Compare(specs) {
		got[d.Label] = append(got[d.Label], d.Kind)
		assert.NotEmpty(t, d.Detail)
		assert.Contains(t, d.String(), d.Label)
	}
	for label := range got {
		got[label] = slices.Compact(got[label])
	}
	assert.Equal(t, map[string][]DifferenceKind{
		"missing":     {DifferenceMissing},
		"weaker":      {DifferenceAttributes},
		"may encrypt": {DifferenceAttributes},
		"other value": {DifferenceValue},
		"other id":    {DifferenceAttributes},
		"no id":       {DifferenceAttributes},
		"doubled":     {DifferenceDoubled},
		"broken":      {DifferenceAttributes, DifferenceValue},
		"extra":       {DifferenceExtra},
		"sealed":      {DifferenceAttributes},
		"other bytes": {DifferenceAttributes, DifferenceValue},
	}, got)
	assert.Equal(t, uint64(1), token.Stats().Generation)
}

// Backup and transport keys that the catalogue has not, or has otherwise, are named; so is a key with a reserved label that nobody knows.
func TestInventoryNamesOfficeKeys(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	values := map[string]kcv.Value{}
	for i, name := range []string{"right", "other", "extra"} {
		key := secret.New(BackupKeySize)
		key.Reveal("test")[0] = byte(i + 1)
		value, err := token.ImportBackupKey(ctx, name, key)
		key.Wipe()
		require.NoError(t, err)
		values[name] = value
	}
	bank := secret.Take(bytesOf(t, loadMaster))
	defer bank.Wipe()
	value, err := keyblock.CheckValue(keyblock.CipherAES128, bank)
	require.NoError(t, err)
	for _, name := range []string{"bank", "left"} {
		_, err := token.ImportTransportKey(ctx, TransportSpec{Name: name, Cipher: keyblock.CipherAES128, KCV: value}, bank)
		require.NoError(t, err)
	}
	createRaw(t, token, rawKey("pursekeeper/unknown", bytesOf(t, loadMaster), nil))
	createRaw(t, token, rawKey("pursekeeper/backup/weaker", bytesOf(t, loadMaster), map[uint]any{pkcs11.CKA_KEY_TYPE: pkcs11.CKK_AES, pkcs11.CKA_WRAP: true, pkcs11.CKA_UNWRAP: true}))

	inventory := inventoryOf(t, token)
	got := map[string][]DifferenceKind{}
	for _, d := range inventory.CompareOffice([]OfficeKey{
		{"pursekeeper/backup/right", values["right"]}, {"pursekeeper/backup/other", kcv.Value{1, 2, 3}}, {"pursekeeper/backup/missing", kcv.Value{}},
		{"pursekeeper/backup/weaker", kcv.Value{}}, {"pursekeeper/transport/bank", kcv.Value{}}, {"pursekeeper/transport/gone", kcv.Value{}},
	}) {
		got[d.Label] = append(got[d.Label], d.Kind)
		assert.Contains(t, d.String(), d.Label)
	}
	for label := range got {
		got[label] = slices.Compact(got[label])
	}
	assert.Equal(t, map[string][]DifferenceKind{
		"pursekeeper/backup/other":   {DifferenceValue},
		"pursekeeper/backup/extra":   {DifferenceExtra},
		"pursekeeper/backup/missing": {DifferenceMissing},
		"pursekeeper/backup/weaker":  {DifferenceAttributes, DifferenceValue},
		"pursekeeper/transport/gone": {DifferenceMissing},
		"pursekeeper/transport/left": {DifferenceExtra},
		"pursekeeper/unknown":        {DifferenceExtra},
	}, got)
}

// Objects of one check value, and of one id, are named in pairs.
func TestInventoryNamesDuplicates(t *testing.T) {
	ctx := context.Background()
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	importKey(t, token, specOf(t, "one", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, loadMaster), loadMaster)
	importKey(t, token, specOf(t, "other", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken, 1, tacMaster), tacMaster)
	assert.Empty(t, inventoryOf(t, token).Duplicates())
	importKey(t, token, specOf(t, "sealed one", keyderive.KindLoad, suite.TDES, keyderive.BoundaryProcess, 1, loadMaster), loadMaster)
	importKey(t, token, specOf(t, "sm4", keyderive.KindLoad, suite.SM4, keyderive.BoundaryProcess, 1, loadMaster), loadMaster)
	inventory := inventoryOf(t, token)
	duplicates := inventory.Duplicates()
	require.Len(t, duplicates, 1)
	assert.Equal(t, DifferenceSameValue, duplicates[0].Kind)
	assert.Equal(t, "sealed one", duplicates[0].Label)
	assert.Contains(t, duplicates[0].Detail, `"one"`)
	assert.Contains(t, duplicates[0].Detail, "16777216")
	assert.Equal(t, []string{"one", "sealed one"}, inventory.Holders(suite.TDES, loadKCV(t)))

	spec := newSpec("first", keyderive.KindLoad, suite.TDES, keyderive.BoundaryToken)
	first, _, err := token.GenerateMaster(ctx, spec, WithoutBackup())
	require.NoError(t, err)
	spec.Label = "second"
	second, _, err := token.GenerateMaster(ctx, spec, WithoutBackup())
	require.NoError(t, err)
	var doubled []string
	for _, d := range inventoryOf(t, token).Compare([]KeySpec{first, second}) {
		if d.Kind == DifferenceDoubled {
			doubled = append(doubled, d.Label)
		}
	}
	assert.Equal(t, []string{"second"}, doubled)
}

// An inventory under traffic disturbs nobody: session objects come and go beside it.
func TestInventoryUnderTraffic(t *testing.T) {
	token, control, keys := faulty(t, nil)
	stop, good := traffic(t, keys, 6)
	for range 5 {
		assert.Len(t, inventoryOf(t, token).Objects, 4, "three masters and the sealing key")
	}
	stop()
	assert.Positive(t, good.Load())
	assert.Equal(t, uint64(1), token.Stats().Generation)
	rulesKept(t, control)
}

// More than one search's worth of objects is found.
func TestInventoryOfManyObjects(t *testing.T) {
	token := openToken(t, configOf(hsmtest.NewToken(t)))
	for range 260 {
		createRaw(t, token, rawKey("many", bytesOf(t, loadMaster), map[uint]any{pkcs11.CKA_DERIVE: false}))
	}
	assert.Len(t, inventoryOf(t, token).Objects, 260)
}
