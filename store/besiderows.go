package store

import (
	"strings"
	"time"
)

const purchaseColumns = `audit_index, key_set, card, purse, counter, random, id, client, type, amount, initialize, terminal, terminal_serial,
	date, time, key_version, kcv, boundary, mac1, created_at, state, right_mac2, wrong_mac2s, right_tac, wrong_tacs`

const sessionColumns = `id, key_set, device, client, key_version, host_challenge, state, expires_at, device_challenge, device_proof,
	host_proof, outcome, sent, sent_blocks, sent_last, received, received_blocks, received_last, audit_index`

// besideStatements are what a group commit runs for terminals, purchases and sessions.
type besideStatements struct {
	terminals, purchases, sessions                             statement
	putTerminals, insertPurchases, updatePurchases, putSession statement
	custody, requests, putCustody, putRequests                 statement
	totalStatements
}

func newBesideStatements() besideStatements {
	return besideStatements{
		terminals: statement{
			text: `WITH asked (asked_set, asked_terminal) AS (VALUES %s) SELECT key_set, terminal, last_serial FROM asked
				CROSS JOIN terminals ON key_set = asked_set AND terminal = asked_terminal`,
			kinds: "tt",
		},
		purchases: statement{
			text: `WITH asked (asked_set, asked_card, asked_purse, asked_counter, asked_random) AS (VALUES %s)
				SELECT ` + purchaseColumns + ` FROM asked CROSS JOIN purchases ON key_set = asked_set AND card = asked_card
				AND purse = asked_purse AND counter = asked_counter AND random = asked_random`,
			kinds: "tttit",
		},
		sessions: statement{
			text: `WITH asked (asked_id) AS (VALUES %s) SELECT ` + sessionColumns + ` FROM asked
				CROSS JOIN reader_sessions ON id = asked_id`,
			kinds: "t",
		},
		putTerminals: statement{
			text: `INSERT INTO terminals (key_set, terminal, last_serial) VALUES %s
				ON CONFLICT (key_set, terminal) DO UPDATE SET last_serial = excluded.last_serial`,
			kinds: "tti",
		},
		insertPurchases: statement{text: `INSERT INTO purchases (` + purchaseColumns + `) VALUES %s`, kinds: "itttittttittittitttittttt"},
		updatePurchases: statement{
			text: `WITH judged (n, s, rm, wm, rt, wt) AS (VALUES %s)
				UPDATE purchases SET state = s, right_mac2 = rm, wrong_mac2s = wm, right_tac = rt, wrong_tacs = wt
				FROM judged WHERE audit_index = n`,
			kinds: "ittttt",
		},
		putSession: statement{
			text: `INSERT INTO reader_sessions (` + sessionColumns + `) VALUES %s
				ON CONFLICT (id) DO UPDATE SET state = excluded.state, expires_at = excluded.expires_at,
					device_challenge = excluded.device_challenge, device_proof = excluded.device_proof,
					host_proof = excluded.host_proof, outcome = excluded.outcome, sent = excluded.sent,
					sent_blocks = excluded.sent_blocks, sent_last = excluded.sent_last, received = excluded.received,
					received_blocks = excluded.received_blocks, received_last = excluded.received_last,
					audit_index = excluded.audit_index`,
			kinds: "ttttittittttiibiibi",
		},
		totalStatements: newTotalStatements(),
		custody:         statement{text: `SELECT revision, document FROM custody WHERE one = 1`},
		putCustody:      statement{text: `UPDATE custody SET revision = ?, document = ? WHERE one = 1`, kinds: "it"},
		requests: statement{
			text: `WITH asked (asked_id) AS (VALUES %s) SELECT ` + requestColumns + ` FROM asked
				CROSS JOIN change_requests ON id = asked_id`,
			kinds: "t",
		},
		putRequests: statement{
			text: `INSERT INTO change_requests (` + requestColumns + `) VALUES %s
				ON CONFLICT (audit_index) DO UPDATE SET state = excluded.state, approvals = excluded.approvals,
					executor = excluded.executor, attempt = excluded.attempt, claimed_at = excluded.claimed_at,
					detail = excluded.detail, ended_index = excluded.ended_index`,
			kinds: "ittttitttiiti",
		},
	}
}

func appendPurchase(values []any, key PurseKey, p *Purchase) []any {
	return appendPurchaseJudgement(append(values, int64(p.AuditIndex), key.KeySet, key.Card, key.Purse, p.Counter, p.Random, p.ID, p.Client, p.Type,
		int64(p.Amount), p.Initialize, p.Terminal, int64(p.Serial), p.Date, p.Time, p.KeyVersion, p.KCV, p.Boundary, p.MAC1,
		p.CreatedAt.UnixMicro()), p)
}

// appendPurchaseJudgement appends what an update may change, the last columns of a purchase.
func appendPurchaseJudgement(values []any, p *Purchase) []any {
	return append(values, string(p.State), p.RightMAC2, strings.Join(p.WrongMAC2s, ","), p.RightTAC, strings.Join(p.WrongTACs, ","))
}

func scanPurchase(row scanner) (key PurseKey, p Purchase, err error) {
	var created int64
	var wrongMAC2s, wrongTACs string
	err = row.Scan(&p.AuditIndex, &key.KeySet, &key.Card, &key.Purse, &p.Counter, &p.Random, &p.ID, &p.Client, &p.Type, &p.Amount, &p.Initialize,
		&p.Terminal, &p.Serial, &p.Date, &p.Time, &p.KeyVersion, &p.KCV, &p.Boundary, &p.MAC1, &created, &p.State, &p.RightMAC2,
		&wrongMAC2s, &p.RightTAC, &wrongTACs)
	p.CreatedAt = time.UnixMicro(created).UTC()
	p.WrongMAC2s, p.WrongTACs = listOf(wrongMAC2s), listOf(wrongTACs)
	return key, p, err
}

// listOf takes apart what strings.Join put together.
func listOf(joined string) []string {
	if joined == "" {
		return nil
	}
	return strings.Split(joined, ",")
}

func appendSession(values []any, s *ReaderSession) []any {
	return append(values, s.ID, s.KeySet, s.Device, s.Client, s.KeyVersion, s.HostChallenge, string(s.State), s.ExpiresAt.UnixMicro(),
		s.DeviceChallenge, s.DeviceProof, s.HostProof, s.Outcome, int64(s.Sent.Sequence), int64(s.Sent.Blocks), s.Sent.Last,
		int64(s.Received.Sequence), int64(s.Received.Blocks), s.Received.Last, int64(s.AuditIndex))
}

func scanSession(row scanner) (s ReaderSession, err error) {
	var expires int64
	err = row.Scan(&s.ID, &s.KeySet, &s.Device, &s.Client, &s.KeyVersion, &s.HostChallenge, &s.State, &expires, &s.DeviceChallenge,
		&s.DeviceProof, &s.HostProof, &s.Outcome, &s.Sent.Sequence, &s.Sent.Blocks, &s.Sent.Last, &s.Received.Sequence,
		&s.Received.Blocks, &s.Received.Last, &s.AuditIndex)
	s.ExpiresAt = time.UnixMicro(expires).UTC()
	return s, err
}
