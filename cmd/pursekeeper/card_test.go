package main

import (
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Each command once, card and signer over mTLS, with both suites. What each prints is what the card and the signer said.
func TestCardByHand(t *testing.T) {
	p := newPocket(t)
	for _, set := range []struct{ name, alg, boundary string }{{"demo", "3DES", "TOKEN"}, {"demo-sm4", "SM4", "PROCESS"}} {
		t.Run(set.name, func(t *testing.T) {
			p.t = t
			p.does("new --pin-file pin --key-set "+set.name,
				`card +00003105228\d{9}, of key set `+set.name+`, `+set.alg+`, profile pboc-ep`, `PIN +3 tries left`, `application +in use`)
			signed := func(kind string) string {
				return "key " + set.name + "/" + kind + "/1 kcv [0-9A-F]{6}, " + set.boundary
			}

			p.does("load 1000", `INITIALIZE FOR LOAD +80 50 00 02 0B  01 000003E8 112233445566  10\n`,
				`AuthorizeLoad +APPROVED  MAC2 [0-9A-F]{8}  `+signed("load"), `CREDIT FOR LOAD`, `ConfirmLoad +VERIFIED`, `balance of EP +1000 fen`)
			p.does("load 900 --purse ED --terminal 0A0B0C0D0E0F", `01 00000384 0A0B0C0D0E0F`, `ED/LOAD/0000/`, `balance of ED +900 fen`)
			p.does("unload 300", `AuthorizeUnload +APPROVED .*`+signed("unload"), `ConfirmUnload +VERIFIED`, `balance of ED +600 fen`)
			p.does("overdraft 500", `AuthorizeOverdraft +APPROVED .*`+signed("overdraft"), `ConfirmOverdraft +VERIFIED`, `balance of ED +1100 fen`)
			p.does("purchase 250", `BeginPurchase +APPROVED  TSN [0-9A-F]{8}  MAC1 [0-9A-F]{8}  `+signed("purchase"), `CompletePurchase +VERIFIED`, `balance of EP +750 fen`)
			p.does("purchase 50 --purse ED", `80 50 01 01`, `ED/PURCHASE/0000/`, `balance of ED +1050 fen`)
			p.does("cash 100", `80 50 02 01`, `ED/CASH/0001/`, `balance of ED +950 fen`)
			p.does("compound 20 --data 00112233445566778899AABBCCDDEEFF --record 2", `UPDATE CAPP CACHE +80 DC 02 BC 10  0011`, `EP/COMPOUND/0001/`,
				`READ RECORD +00 B2 02 BC 10\n.*answers +00112233445566778899AABBCCDDEEFF  SW 9000`, `balance of EP +730 fen`)
			p.does("balance", `balance of EP +730 fen\n(.*\n)+.*balance of ED +950 fen`)
			p.does("balance --purse ED", `balance of ED +950 fen`)
			log := p.does("log", `counter 0001 +09 compound purchase, 20 fen`, `counter 0002 +07 ED overdraft limit, 500 fen`, `counter 0001 +03 unload, 300 fen`,
				`READ RECORD 9 .*\n.*SW 6A83`)
			assert.Len(t, regexp.MustCompile(`counter [0-9A-F]{4} `).FindAllString(log, -1), 8)

			p.does("update binary 0102030405 --offset 7", `UPDATE BINARY +04 D6 96 07 09`, `READ BINARY .*\n.*answers +0102030405  SW 9000`, signed("maintenance"))
			p.does("update record 000102030405060708090A0B0C0D0E0F", `UPDATE RECORD +04 DC 01 BC 14`, `answers +000102030405060708090A0B0C0D0E0F  SW 9000`)
			p.does("authenticate", `EXTERNAL AUTHENTICATE +00 82 00 00 08  [0-9A-F]{16}\n.*SW 9000`, signed("control"),
				`AuthenticateCard +VERIFIED  `+signed("internal-auth"))
			assert.NotContains(t, p.does("authenticate host"), "INTERNAL")
			assert.NotContains(t, p.does("authenticate card"), "EXTERNAL")
			assert.Contains(t, p.does("prove"), "nothing is open")
			assert.Contains(t, p.does("settle"), "nothing was open")
			p.shows(730, 1, 950, 3)
			require.NoError(t, os.Remove(p.file))
		})
	}
}

// A blocked application refuses everything until it is unblocked; a permanent block and CARD BLOCK are for ever.
func TestCardBlocks(t *testing.T) {
	p := newPocket(t)
	for _, set := range []string{"demo", "demo-sm4"} {
		p.does("new --key-set " + set)
		p.does("load 100")
		p.does("block", `SignCommand +APPROVED  key `+set+`/maintenance/1`, `APPLICATION BLOCK +84 1E 00 00 04`)
		p.does("show", `application +blocked\n`)
		for _, command := range []string{"balance", "load 100", "purchase 1", "log", "authenticate"} {
			p.fails(command, `the card refuses .*: 6A81`)
		}
		p.does("unblock", `APPLICATION UNBLOCK +84 18 00 00 04`)
		p.fails("unblock", `the card refuses APPLICATION UNBLOCK: 6985`)
		p.does("purchase 1", `balance of EP +99 fen`)
		p.does("block --permanent", `APPLICATION BLOCK +84 1E 00 01 04`)
		p.fails("unblock", `the card refuses SELECT: 9303`)
		p.does("show", `application +blocked for ever`)
		require.NoError(t, os.Remove(p.file))

		p.does("new --key-set " + set)
		p.does("block --card", `CARD BLOCK +84 16 00 00 04`)
		p.fails("balance", `the card refuses SELECT: 6A81`)
		p.does("show", `application +the card is blocked for ever`)
		require.NoError(t, os.Remove(p.file))
	}
	status, out := p.card("block", "--card", "--permanent")
	assert.NotZero(t, status)
	assert.Contains(t, out, "can't be used together")
}

// Power that is lost at any step of the completing command leaves a transaction that the card took or did not take, and the signer
// learns which.
func TestCardTorn(t *testing.T) {
	p := newPocket(t)
	for _, set := range []string{"demo", "demo-sm4"} {
		p.does("new --key-set " + set)
		balance, counter := 0, 0
		for step := 1; step <= 7; step++ {
			torn := p.fails(fmt.Sprintf("load 10 --tear %d", step), fmt.Sprintf(`power is lost +at step %d\n`, step),
				`the card lost its power before it answered; "card prove `+set+`/\S+/EP/LOAD/[0-9A-F]{4}/[0-9A-F]{8}" asks it`)
			assert.NotContains(t, torn, "ConfirmLoad")
			status, out := p.card("prove")
			if status == 0 {
				assert.Contains(t, out, "VERIFIED")
				balance, counter = balance+10, counter+1
			} else {
				assert.Regexp(t, `SW 9406\n.*the card has no proof of `+set, out)
				p.does("settle", `NOT_APPLIED +`+set+`/\d+/EP/LOAD/.*, by settlement`)
			}
			p.shows(balance, counter, 0, 0)
		}
		assert.NotZero(t, balance, "the later steps are after the commit")
		assert.Less(t, balance, 70, "the earlier ones are before it")
		p.does("load 10 --tear 99", `the power stays on +the command has 7 steps`, `ConfirmLoad +VERIFIED`)

		p.does("load 500 --purse ED")
		p.fails("unload 100 --tear last", `power is lost`)
		p.does("prove", `open  `+set+`/\d+/ED/UNLOAD/0001/`, `ConfirmUnload +VERIFIED`)
		p.fails("overdraft 100 --tear last", `power is lost`)
		p.does("prove", `ConfirmOverdraft +VERIFIED`)
		for _, command := range []string{"purchase 5", "cash 5", "compound 5"} {
			torn := p.fails(command+" --tear last", `power is lost`)
			p.does("prove "+tornID(torn), `GET TRANSACTION PROVE`, `CompletePurchase +VERIFIED`)
		}
		// Two open at one counter: the card took the second.
		first := tornID(p.fails("load 10 --tear 1"))
		second := tornID(p.fails("load 10 --tear last"))
		p.does("prove", `ConfirmLoad +VERIFIED +`+second, `NOT_APPLIED +`+first+`, by sibling`)
		assert.Contains(t, p.does("prove"), "nothing is open")
		require.NoError(t, os.Remove(p.file))
	}
}

// tornID is the transaction that a torn command names, else "none", which no signer has.
func tornID(out string) string {
	found := regexp.MustCompile(`card prove (\S+)"`).FindStringSubmatch(out)
	if found == nil {
		return "none"
	}
	return found[1]
}

// A card of another profile goes with a key set of that profile, and with no other.
func TestCardProfiles(t *testing.T) {
	h := newHome(t)
	for profile, mismatch := range map[string]string{
		"fmcos":     `invalid_argument: challenge: 8 bytes, expected 4`,
		"transport": `the card refuses APPLICATION BLOCK: 6988`,
	} {
		s := serveChild(h, h.config("serve.yaml", edit{`profile: pboc-ep`, "profile: " + profile}))
		p := &pocket{t: t, dir: t.TempDir(), server: "https://" + s.public}
		p.file = p.path("card.json")
		p.pins()
		asked := func(command string) string { return command + " --file card.json --tls " + h.path("tls") }
		p.does("new --file card.json --pin-file pin --profile " + profile)
		for _, command := range []string{"load 100", "load 100 --purse ED", "unload 10", "purchase 10", "compound 1", "overdraft 7",
			"update binary 00112233445566", "authenticate", "block", "unblock", "pin-unblock --pin-file pin", "pin-reload --pin-file new-pin"} {
			p.does(asked(command))
		}
		p.does("verify --file card.json --pin-file new-pin", `VERIFY`)
		p.fails(asked("block")+" --key-set demo-sm4", mismatch)
		require.Zero(t, s.terminate())
	}
}
