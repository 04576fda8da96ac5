package rpc

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// Bad input of the online transactions beside the load, each refused with its code and the field's name.
func TestMalformedOnlineRequests(t *testing.T) {
	w := newWorld(t, withFlavours(t))
	platform := w.as("platform")
	set := flavours(t)[0].keySet()
	const answer = "000003E8 0007 01 00 A1B2C3D4 7E1722D0"
	const update = "000003E8 0007 0001F4 01 00 A1B2C3D4 7E1722D0"
	unload := fields{
		"keySet": set, "cardSerial": demoCard, "purse": "PURSE_ED", "amountFen": 100, "terminalId": "112233445566",
		"initializeResponse": answer, "date": "20240131", "time": "235959",
	}
	overdraft := fields{
		"keySet": set, "cardSerial": demoCard, "newLimitFen": 700, "terminalId": "112233445566", "initializeResponse": update,
		"date": "20240131", "time": "235959",
	}
	shown := func(id, name, value string) fields { return fields{"transactionId": id, name: value} }
	const exhausted = "initializeResponse: ONSN is FFFF, where the card's counter ends"
	for _, row := range []refusal{
		{"unload of the other purse", authorizeUnload, unload.with("purse", "PURSE_EP"), invalid, "purse: "},
		{"unload of no purse", authorizeUnload, unload.with("purse", nil), invalid, "purse: missing"},
		{"unload of nothing", authorizeUnload, unload.with("amountFen", 0), invalid, "amountFen: is 0"},
		{"unload of more than there is", authorizeUnload, unload.with("amountFen", 1001), invalid, "amountFen: 1001 is over the card's balance 1000"},
		{"unload in five bytes", authorizeUnload, unload.with("amountFen", 1<<32), invalid, "amountFen: 4294967296 fen do not fit in four bytes"},
		{"unload with an update's answer", authorizeUnload, unload.with("initializeResponse", update), invalid, "initializeResponse: 19 bytes, expected 16"},
		{"unload at the last counter", authorizeUnload, unload.with("initializeResponse", "000003E8 FFFF 01 00 A1B2C3D4 7E1722D0"), invalid, exhausted},
		{"unload without a card", authorizeUnload, unload.with("cardSerial", nil), invalid, "cardSerial: "},
		{"unload with half a moment", authorizeUnload, unload.with("date", nil), invalid, "date: missing"},
		{"unload of an unknown set", authorizeUnload, unload.with("keySet", "x"), "not_found", "keySet: is not known"},
		{"unload with a limit", authorizeUnload, unload.with("newLimitFen", 1), invalid, "newLimitFen: unknown field"},

		{"limit missing", authorizeOverdraft, overdraft.with("newLimitFen", nil), invalid, "newLimitFen: missing, expected 0 to 16777215"},
		{"limit in four bytes", authorizeOverdraft, overdraft.with("newLimitFen", 1<<24), invalid, "newLimitFen: 16777216 fen do not fit in three bytes"},
		{"limit below what is overdrawn", authorizeOverdraft,
			overdraft.with("newLimitFen", 0).with("initializeResponse", "00000001 0007 0001F4 01 00 A1B2C3D4 7E1722D0"), invalid, "newLimitFen: balance 1,"},
		{"limit over four bytes of balance", authorizeOverdraft,
			overdraft.with("newLimitFen", 16777215).with("initializeResponse", "FFFFFFFF 0007 000000 01 00 A1B2C3D4 7E1722D0"), invalid, "newLimitFen: balance "},
		{"update with a load's answer", authorizeOverdraft, overdraft.with("initializeResponse", answer), invalid, "initializeResponse: 16 bytes, expected 19"},
		{"update at the last counter", authorizeOverdraft,
			overdraft.with("initializeResponse", "000003E8 FFFF 0001F4 01 00 A1B2C3D4 7E1722D0"), invalid, exhausted},
		{"update of a purse", authorizeOverdraft, overdraft.with("purse", "PURSE_ED"), invalid, "purse: unknown field"},
		{"update of no terminal", authorizeOverdraft, overdraft.with("terminalId", nil), invalid, "terminalId: 0 bytes, expected 6"},

		{"load at the last counter", authorizeLoad, demoLoad().with("initializeResponse", "000003E8 FFFF 01 00 A1B2C3D4 7E1722D0"), invalid, exhausted},
		{"settlement at the last counter", settleLoad,
			fields{"settlementId": "demo/" + demoCard + "/EP/SETTLEMENT/0000000000000000", "initializeResponse": "000003E8 FFFF 01 00 A1B2C3D4 7E1722D0"},
			invalid, exhausted},

		{"mac3 short", confirmUnload, shown(set+"/"+demoCard+"/ED/UNLOAD/0007/A1B2C3D4", "mac3", "00"), invalid, "mac3: 1 bytes, expected 4"},
		{"mac3 missing", confirmUnload, fields{"transactionId": set + "/" + demoCard + "/ED/UNLOAD/0007/A1B2C3D4"}, invalid, "mac3: 0 bytes, expected 4"},
		{"unload unknown", confirmUnload, shown(set+"/"+demoCard+"/ED/UNLOAD/0007/A1B2C3D4", "mac3", "00000000"), "not_found", "transactionId: is not known"},
		{"unload's id malformed", confirmUnload, shown("x", "mac3", "00000000"), invalid, "transactionId: "},
		{"an unload has no tac", confirmUnload, shown(set+"/"+demoCard+"/ED/UNLOAD/0007/A1B2C3D4", "tac", "00000000"), invalid, "tac: unknown field"},
		{"tac of a limit short", confirmOverdraft, shown(set+"/"+demoCard+"/ED/OVERDRAFT/0007/A1B2C3D4", "tac", "00"), invalid, "tac: 1 bytes, expected 4"},
		{"limit unknown", confirmOverdraft, shown(set+"/"+demoCard+"/ED/OVERDRAFT/0007/A1B2C3D4", "tac", "00000000"), "not_found", "transactionId: is not known"},
	} {
		r := platform.post(row.method, row.body)
		assert.Equal(t, row.code, r.code(), "%s: %v", row.name, r.body)
		assert.Contains(t, r.message(), row.message, row.name)
		assert.NotContains(t, r.body, "mac2", row.name)
		quiet(t, r.message(), row.name)
	}
	assert.Empty(t, w.attempts())
	assert.Len(t, w.entries(), 1)
}
