package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What the card or the signer refuses ends the command with status 1, and the card is as it was.
func TestCardRefusals(t *testing.T) {
	p := newPocket(t)
	for _, set := range []string{"demo", "demo-sm4"} {
		p.does("new --key-set " + set)
		p.does("load 1000")
		other := map[string]string{"demo": "demo-sm4", "demo-sm4": "demo"}[set]
		for command, why := range map[string]string{
			"load 0":                               `invalid_argument: amountFen`,
			"purchase 1001":                        `the card refuses INITIALIZE FOR PURCHASE: 9401 balance too low`,
			"cash 1":                               `the card refuses INITIALIZE FOR CASH: 9401`,
			"unload 1":                             `the card refuses INITIALIZE FOR UNLOAD: 9401`,
			"unload 1 --purse EP":                  `purse: EP, but card profile pboc-ep unloads ED alone`,
			"overdraft 16777216":                   `limit: 16777216 fen do not fit in three bytes`,
			"load 1 --key-set nowhere":             `not_found: `,
			"load 1 --key-set " + other:            `the signer refuses: MAC_MISMATCH`,
			"load 1 --serial 3105228000001117":     `the signer refuses: MAC_MISMATCH`,
			"load 1 --serial 12G4":                 `invalid_argument: cardSerial: character 3`,
			"load 1 --terminal 1122":               `terminalId: 2 bytes, expected 6`,
			"load 1 --as reader":                   `permission_denied: role reader may not AuthorizeLoad`,
			"purchase 1 --as platform":             `permission_denied: role platform may not BeginPurchase`,
			"block --as officer":                   `permission_denied: role officer may not SignCommand`,
			"block --key-set " + other:             `the card refuses APPLICATION BLOCK: 6988`,
			"purchase 1 --key-set " + other:        `the card refuses DEBIT FOR PURCHASE: 9302`,
			"authenticate card --key-set " + other: `the signer refuses: MAC_MISMATCH`,
			"authenticate host --key-set " + other: `the card refuses EXTERNAL AUTHENTICATE: 63C2`,
			"update record 00":                     `the card refuses UPDATE RECORD: 6700`,
			"update binary xy":                     `data: character 1`,
			"compound 1 --data 00":                 `the card refuses UPDATE CAPP CACHE: 6700`,
			"compound 1 --record 9":                `the card refuses UPDATE CAPP CACHE: 6A83`,
			"prove nonsense":                       `transaction id "nonsense": expected KEYSET/CARD/PURSE/OPERATION/COUNTER/R`,
			"prove demo/1/EP/GIFT/0000/00":         `unknown operation "GIFT"`,
			"prove demo/1/EP/LOAD/0009/00":         `the card refuses GET TRANSACTION PROVE: 9406`,
			"load 1 --tls nowhere":                 `client certificate: `,
			"verify --pin-file pin":                `the card refuses VERIFY: 6985`,
		} {
			p.fails(command, why)
		}
		p.shows(1000, 1, 0, 0)
		p.does("authenticate host", `SW 9000`)
		require.NoError(t, os.Remove(p.file))
	}
	// A second card of one number, which begins anew, is behind what the signer knows.
	p.does("new --serial 3105228000002027")
	p.does("load 1")
	require.NoError(t, os.Remove(p.file))
	p.does("new --serial 3105228000002027")
	p.fails("load 1", `the signer refuses: COUNTER_STALE`)
	p.shows(0, 0, 0, 0)
	p.server = "https://" + busyPort(t) + "0"
	p.fails("load 1", `pursekeeper: `)
	p.shows(0, 0, 0, 0)
}

// card new makes no second card in the place of one, and nothing of what it does not know.
func TestCardNewRefusals(t *testing.T) {
	p := &pocket{t: t, dir: t.TempDir()}
	p.file = p.path("card.json")
	p.pins()
	for command, why := range map[string]string{
		"new --key-set nowhere":              `key set "nowhere": its test keys are not known here, those of demo, .* are`,
		"new --profile nowhere":              `nowhere`,
		"new --serial 12G4":                  `cardSerial: character 3`,
		"new --serial 123456789012345678901": `cardSerial: 21 hex digits, expected 1 to 20`,
		"new --pin-file nowhere":             `PIN: file .*nowhere: no such secret`,
		"new --pin-env NOWHERE":              `PIN: environment variable NOWHERE: it is not set`,
		"new --with-pin":                     `PIN: there is no terminal to ask; give --pin-file or --pin-env`,
	} {
		p.fails(command+" --file card.json", why)
	}
	made, err := os.ReadDir(p.dir)
	require.NoError(t, err)
	assert.Len(t, made, len(pocketPINs), "nothing is made")

	p.does("new --file card.json --serial 17", `card +00000000000000000017,`)
	before, err := os.ReadFile(p.file)
	require.NoError(t, err)
	info, err := os.Stat(p.file)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	p.fails("new --file card.json", `card.json: there is a card already`)
	after, err := os.ReadFile(p.file)
	require.NoError(t, err)
	assert.Equal(t, before, after)
	made, err = os.ReadDir(p.dir)
	require.NoError(t, err)
	assert.Len(t, made, len(pocketPINs)+1, "and nothing is left behind")
}

// A card of other test keys is made as dev takes them.
func TestCardOfOtherKeys(t *testing.T) {
	dir := t.TempDir()
	p := &pocket{t: t, dir: dir, file: filepath.Join(dir, ".pursekeeper", "card.json")}
	p.write("keys.json", `{"keySets":[{"name":"mine","algorithm":"3DES","issuerFactors":["1111222233334444","5555666677778888"],"keys":[
		{"kind":"load","version":1,"masterKey":"0123456789ABCDEF1032547698BADCFE"},
		{"kind":"load","version":2,"masterKey":"1123456789ABCDEF1032547698BADCFE"},
		{"kind":"tac","version":1,"masterKey":"2123456789ABCDEF1032547698BADCFE"},
		{"kind":"tac","version":2,"masterKey":"3123456789ABCDEF1032547698BADCFE"}]}]}`)
	p.server = dev(t, dir, "--test-keys", "keys.json").says(`signer +(https://\S+)`)[1]
	p.fails("new --key-set mine", `name its file with --test-keys`)
	p.does("new --key-set mine --test-keys keys.json")
	p.does("load 100", `key mine/load/2 `, `ConfirmLoad +VERIFIED`)
	p.fails("purchase 1", `the card refuses INITIALIZE FOR PURCHASE: 9403`)
}

// Every way in which a file is not a card.
func TestCardFileDamaged(t *testing.T) {
	p := &pocket{t: t, dir: t.TempDir()}
	p.file = p.path("card.json")
	p.pins()
	p.fails("show --file card.json", `card.json: no such file or directory; "pursekeeper card new" makes a card`)
	p.does("new --file card.json --pin-file pin")
	whole, err := os.ReadFile(p.file)
	require.NoError(t, err)
	good := string(whole)
	edited := func(old, new string) string {
		t.Helper()
		require.Regexp(t, old, good)
		return regexp.MustCompile(old).ReplaceAllString(good, new)
	}
	for name, c := range map[string]struct{ content, why string }{
		"empty":            {"", `not a card, or a damaged one`},
		"cut":              {good[:len(good)/2], `not a card, or a damaged one`},
		"twice":            {good + good, `a damaged card: something follows it`},
		"other":            {`{"keySets":[]}`, `not a card, or a damaged one`},
		"another format":   {edited(`pursekeeper-card-v1`, `pursekeeper-card-v2`), `format "pursekeeper-card-v2", expected "pursekeeper-card-v1"`},
		"too many tries":   {edited(`"pinTries": 3`, `"pinTries": 4`), `a damaged card: .*more tries than there are`},
		"an unknown field": {edited(`"pinTries": 3`, `"pinTries": 3, "luck": 1`), `a damaged card: `},
		"a cut key":        {edited(`("value": "[0-9A-F]{30})[0-9A-F]{2}"`, `$1"`), `a damaged card: .*15 bytes`},
		"no digits":        {edited(`("value": ")[0-9A-F]{2}`, `${1}ZZ`), `a damaged card: `},
		"a PIN of letters": {edited(`("testPin": ")495162`, `${1}4951AB`), `a damaged card: .*pin`},
		"large":            {good + strings.Repeat(" ", 1<<20), `not a card: larger than any`},
	} {
		t.Run(name, func(t *testing.T) {
			p.t = t
			p.write("card.json", c.content)
			for _, command := range []string{"show", "balance", "verify --pin-file pin"} {
				p.fails(command+" --file card.json", c.why)
			}
			left, err := os.ReadFile(p.file)
			require.NoError(t, err)
			assert.Equal(t, c.content, string(left), "it is left for a person to look at")
		})
	}
	p.t = t
	require.NoError(t, os.Remove(p.file))
	require.NoError(t, os.Mkdir(p.file, 0o700))
	p.fails("show --file card.json", `is a directory`)
}

// A card whose key was altered is refused by the signer, and recorded.
func TestCardOfAWrongKey(t *testing.T) {
	p := newPocket(t)
	p.does("new")
	content, err := os.ReadFile(p.file)
	require.NoError(t, err)
	altered := regexp.MustCompile(`("kind": "load",\s+"index": 1,\s+"version": 1,\s+"value": ")[0-9A-F]{16}`).ReplaceAll(content, []byte("${1}0123456789ABCDEF"))
	require.NotEqual(t, content, altered)
	require.NoError(t, os.WriteFile(p.file, altered, 0o600))
	p.fails("load 100", `AuthorizeLoad +MAC_MISMATCH`, `the signer refuses: MAC_MISMATCH`)
	p.shows(0, 0, 0, 0)
}
