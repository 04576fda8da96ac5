package ledger_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/signer/ledger"
	"github.com/pursekeeper/pursekeeper/store"
)

func undated(a *ledger.Answer)  { a.Date, a.Time = "", "" }
func unload(a *ledger.Answer)   { a.Operation = ledger.Unload }
func tomorrow(a *ledger.Answer) { a.Date = "20240201" }

// The rules of DESIGN, §3 on an answer with a right MAC1, in their order: what is asked, and what each request gets.
func TestAuthorize(t *testing.T) {
	g := newStage(t)
	overdraft := func(a *ledger.Answer) { a.Operation = ledger.Overdraft }
	for _, test := range []struct {
		name  string
		scene func(*scene)
		want  []string
	}{
		{"a card seen first may stand anywhere", func(s *scene) { s.ask(9, "A"); s.highest() }, []string{"APPROVED", "highest 9"}},

		// 1. (counter, R) is recorded.
		{"the same request", func(s *scene) { s.ask(7, "A"); s.ask(7, "A") }, []string{"APPROVED", "APPROVED recorded"}},
		{"without date and time", func(s *scene) { s.ask(7, "A"); s.ask(7, "A", undated) }, []string{"APPROVED", "APPROVED recorded"}},
		{"another date", func(s *scene) { s.ask(7, "A"); s.ask(7, "A", tomorrow) }, []string{"APPROVED", "COUNTER_CONFLICT recorded"}},
		{"another time", func(s *scene) { s.ask(7, "A"); s.ask(7, "A", func(a *ledger.Answer) { a.Time = "000000" }) },
			[]string{"APPROVED", "COUNTER_CONFLICT recorded"}},
		{"another amount", func(s *scene) { s.ask(7, "A"); s.ask(7, "A", undated, func(a *ledger.Answer) { a.Amount = 1 }) },
			[]string{"APPROVED", "COUNTER_CONFLICT recorded"}},
		{"another terminal", func(s *scene) { s.ask(7, "A"); s.ask(7, "A", func(a *ledger.Answer) { a.Terminal = "66" }) },
			[]string{"APPROVED", "COUNTER_CONFLICT recorded"}},
		{"another operation", func(s *scene) { s.ask(7, "A"); s.ask(7, "A", unload) }, []string{"APPROVED", "COUNTER_CONFLICT recorded"}},
		{"another random is another request", func(s *scene) { s.ask(7, "A"); s.ask(7, "B") }, []string{"APPROVED", "APPROVED"}},
		{"a recorded answer is below the highest and still replayed", func(s *scene) { s.ask(7, "A"); s.ask(8, "B"); s.ask(7, "A") },
			[]string{"APPROVED", "APPROVED A:APPLIED/COUNTER", "APPLIED recorded"}},
		{"a recorded answer is not refused for what it would be refused now",
			func(s *scene) { s.ask(7, "A"); s.refuse(7, "A", ledger.LimitExceeded) }, []string{"APPROVED", "APPROVED recorded"}},

		// 2. Below the highest counter.
		{"a lower counter", func(s *scene) { s.ask(8, "A"); s.ask(7, "B") }, []string{"APPROVED", "COUNTER_STALE"}},
		{"a lower counter, refused anyway", func(s *scene) { s.ask(8, "A"); s.refuse(7, "B", ledger.LimitExceeded) },
			[]string{"APPROVED", "COUNTER_STALE"}},

		// 3. Above it.
		{"one open", func(s *scene) { s.ask(7, "A"); s.ask(8, "B") }, []string{"APPROVED", "APPROVED A:APPLIED/COUNTER"}},
		{"one open overdraft", func(s *scene) { s.ask(7, "A", overdraft); s.ask(8, "B") }, []string{"APPROVED", "APPROVED A:APPLIED/COUNTER"}},
		{"one open unload", func(s *scene) { s.ask(7, "A", unload); s.ask(8, "B") }, []string{"APPROVED", "APPROVED A:UNDETERMINED/COUNTER"}},
		{"two open", func(s *scene) { s.ask(7, "A"); s.ask(7, "B"); s.ask(8, "C") },
			[]string{"APPROVED", "APPROVED", "APPROVED A:UNDETERMINED/COUNTER B:UNDETERMINED/COUNTER"}},
		{"one open and one settled", func(s *scene) { s.ask(7, "A"); s.begin("S"); s.try("S", "x", 7); s.ask(7, "B"); s.ask(8, "C") },
			[]string{"APPROVED", "VERIFIED A:NOT_APPLIED/SETTLEMENT", "APPROVED", "APPROVED B:APPLIED/COUNTER"}},
		{"none open", func(s *scene) { s.refuse(7, "A", ledger.LimitExceeded); s.ask(8, "B") },
			[]string{"LIMIT_EXCEEDED", "APPROVED unexplained 7-7"}},
		{"all settled", func(s *scene) { s.ask(7, "A"); s.begin("S"); s.try("S", "x", 7); s.ask(8, "B") },
			[]string{"APPROVED", "VERIFIED A:NOT_APPLIED/SETTLEMENT", "APPROVED unexplained 7-7"}},
		{"one open and two passed", func(s *scene) { s.ask(7, "A"); s.ask(10, "B") },
			[]string{"APPROVED", "APPROVED A:APPLIED/COUNTER unexplained 8-9"}},
		{"one verified already", func(s *scene) { s.ask(7, "A"); s.tac(7, "A", "T", true); s.ask(8, "B"); s.ask(10, "C") },
			[]string{"APPROVED", "VERIFIED", "APPROVED", "APPROVED B:APPLIED/COUNTER unexplained 9-9"}},
		{"a refused request proves too", func(s *scene) { s.ask(7, "A"); s.refuse(8, "B", ledger.LimitExceeded); s.highest(); s.ask(7, "C") },
			[]string{"APPROVED", "LIMIT_EXCEEDED A:APPLIED/COUNTER", "highest 8", "COUNTER_STALE"}},
		{"and is no attempt", func(s *scene) { s.refuse(7, "A", ledger.LimitExceeded); s.ask(7, "A", tomorrow) },
			[]string{"LIMIT_EXCEEDED", "APPROVED"}},
	} {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, g.rehearse(test.scene)) })
	}
}

// 4. At the highest counter.
func TestTenAtOneCounter(t *testing.T) {
	log := newStage(t).rehearse(func(s *scene) {
		for i := range ledger.OpenAtOneCounter + 1 {
			s.ask(7, fmt.Sprint("R", i))
		}
		s.ask(7, "R3") // a recorded one is no new one
		s.begin("S")
		s.ask(7, "more") // refused: it cancels no settlement
		s.try("S", "x", 7)
		s.ask(7, "again")
		s.ask(8, "next")
	})
	require.Equal(t, "APPROVED", log[9])
	require.Equal(t, []string{"SETTLEMENT_REQUIRED", "APPROVED recorded", "SETTLEMENT_REQUIRED"}, log[10:13])
	require.Contains(t, log[13], "VERIFIED R0:NOT_APPLIED/SETTLEMENT")
	require.Contains(t, log[13], "R9:NOT_APPLIED/SETTLEMENT")
	require.Equal(t, []string{"APPROVED", "APPROVED again:APPLIED/COUNTER"}, log[14:])
}

// wrongs shows n wrong TACs for A.
func wrongs(s *scene, n int) {
	for i := range n {
		s.tac(7, "A", fmt.Sprint("wrong", i), false)
	}
	s.log = nil
}

// two has A and B open at one counter, alike unless B is changed.
func two(s *scene, change ...func(*ledger.Answer)) {
	s.ask(7, "A")
	s.ask(7, "B", change...)
	s.log = nil
}

func TestConfirm(t *testing.T) {
	g := newStage(t)
	for _, test := range []struct {
		name  string
		scene func(*scene)
		want  []string
	}{
		{"right", func(s *scene) { s.ask(7, "A"); s.tac(7, "A", "T", true); s.state(7, "A"); s.highest() },
			[]string{"APPROVED", "VERIFIED", "A VERIFIED TAC", "highest 8"}},
		{"right twice", func(s *scene) { two(s); s.tac(7, "A", "T", true); s.tac(7, "A", "T", true) },
			[]string{"VERIFIED B:NOT_APPLIED/SIBLING", "VERIFIED recorded B:NOT_APPLIED/SIBLING"}},
		{"wrong", func(s *scene) { two(s); s.tac(7, "A", "T", false); s.state(7, "A"); s.highest() },
			[]string{"TAC_MISMATCH", "A OPEN", "highest 7"}},
		{"wrong twice", func(s *scene) { two(s); s.tac(7, "A", "T", false); s.tac(7, "A", "T", false) },
			[]string{"TAC_MISMATCH", "TAC_MISMATCH recorded"}},
		{"right after four wrong", func(s *scene) { two(s); wrongs(s, 4); s.tac(7, "A", "T", true) }, []string{"VERIFIED B:NOT_APPLIED/SIBLING"}},
		{"right after five wrong", func(s *scene) { two(s); wrongs(s, 5); s.tac(7, "A", "T", true); s.state(7, "A") },
			[]string{"TAC_MISMATCH", "A OPEN"}},
		{"five wrong are remembered, a sixth is not", func(s *scene) {
			two(s)
			wrongs(s, 6)
			s.note(fmt.Sprint(s.attempt(7, "A").WrongTACs))
		}, []string{"[wrong0 wrong1 wrong2 wrong3 wrong4]"}},
		{"wrong after right", func(s *scene) { two(s); s.tac(7, "A", "T", true); s.tac(7, "A", "U", false); s.state(7, "A") },
			[]string{"VERIFIED B:NOT_APPLIED/SIBLING", "TAC_MISMATCH", "A VERIFIED TAC"}},
		{"of an applied one", func(s *scene) { s.ask(7, "A"); s.ask(8, "B"); s.tac(7, "A", "T", true); s.highest() },
			[]string{"APPROVED", "APPROVED A:APPLIED/COUNTER", "VERIFIED", "highest 8"}},
		{"of an undetermined one", func(s *scene) { two(s); s.ask(8, "C"); s.tac(7, "B", "T", true); s.state(7, "A") },
			[]string{"APPROVED A:UNDETERMINED/COUNTER B:UNDETERMINED/COUNTER", "VERIFIED A:NOT_APPLIED/SIBLING", "A NOT_APPLIED SIBLING"}},
		{"of the other sibling, told apart", func(s *scene) {
			two(s, tomorrow)
			s.tac(7, "A", "T", true)
			s.tac(7, "B", "U", true)
			s.tac(7, "B", "U", true)
		},
			[]string{"VERIFIED B:NOT_APPLIED/SIBLING", "CONTRADICTION", "CONTRADICTION recorded"}},
		{"of the other sibling, not told apart", func(s *scene) { two(s); s.tac(7, "A", "T", true); s.tac(7, "B", "T", true) },
			[]string{"VERIFIED B:NOT_APPLIED/SIBLING", "NOT_APPLIED"}},
		{"of a settled one", func(s *scene) {
			s.ask(7, "A")
			s.begin("S")
			s.try("S", "x", 7)
			s.tac(7, "A", "T", true)
			s.state(7, "A")
		},
			[]string{"APPROVED", "VERIFIED A:NOT_APPLIED/SETTLEMENT", "CONTRADICTION", "A NOT_APPLIED SETTLEMENT"}},
		{"of a settled one, like an open one", func(s *scene) {
			s.ask(7, "A")
			s.begin("S")
			s.try("S", "x", 7)
			s.ask(7, "B")
			s.tac(7, "A", "T", true)
			s.tac(7, "B", "T", true)
		}, []string{"APPROVED", "VERIFIED A:NOT_APPLIED/SETTLEMENT", "APPROVED", "NOT_APPLIED", "VERIFIED"}},
		{"MAC3 of a settled unload is never another's", func(s *scene) {
			s.ask(7, "A", unload)
			s.begin("S")
			s.try("S", "x", 7)
			s.ask(7, "B", unload)
			s.tac(7, "A", "T", true)
		}, []string{"APPROVED", "VERIFIED A:NOT_APPLIED/SETTLEMENT", "APPROVED", "CONTRADICTION"}},
		{"of the other of two changes of a limit, from other limits to one balance", func(s *scene) {
			change := func(a *ledger.Answer) { a.Operation = ledger.Overdraft }
			s.balance, s.oldLimit = 1000, 300
			s.ask(7, "A", change)
			s.balance, s.oldLimit = 1100, 400
			s.ask(7, "B", change)
			s.tac(7, "A", "T", true)
			s.tac(7, "B", "T", true)
		}, []string{"APPROVED", "APPROVED", "VERIFIED B:NOT_APPLIED/SIBLING", "NOT_APPLIED"}},
		{"of the other of two changes of a limit, told apart", func(s *scene) {
			change := func(a *ledger.Answer) { a.Operation = ledger.Overdraft }
			s.balance, s.oldLimit = 1000, 300
			s.ask(7, "A", change)
			s.oldLimit = 400
			s.ask(7, "B", change)
			s.tac(7, "A", "T", true)
			s.tac(7, "B", "U", true)
		}, []string{"APPROVED", "APPROVED", "VERIFIED B:NOT_APPLIED/SIBLING", "CONTRADICTION"}},
	} {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, g.rehearse(test.scene)) })
	}
}

func TestSettle(t *testing.T) {
	g := newStage(t)
	for _, test := range []struct {
		name  string
		scene func(*scene)
		want  []string
	}{
		{"at the highest", func(s *scene) { s.ask(7, "A"); s.ask(7, "B", unload); s.begin("S"); s.try("S", "x", 7) },
			[]string{"APPROVED", "APPROVED", "VERIFIED A:NOT_APPLIED/SETTLEMENT B:NOT_APPLIED/SETTLEMENT"}},
		{"above", func(s *scene) { s.ask(7, "A"); s.begin("S"); s.try("S", "x", 9); s.highest() },
			[]string{"APPROVED", "VERIFIED A:APPLIED/COUNTER unexplained 8-8", "highest 9"}},
		{"above several", func(s *scene) { s.ask(7, "A"); s.ask(7, "B"); s.begin("S"); s.try("S", "x", 8) },
			[]string{"APPROVED", "APPROVED", "VERIFIED A:UNDETERMINED/COUNTER B:UNDETERMINED/COUNTER"}},
		{"below", func(s *scene) {
			s.ask(7, "A")
			s.begin("S")
			s.refuse(8, "B", ledger.LimitExceeded)
			s.try("S", "x", 7)
		},
			[]string{"APPROVED", "LIMIT_EXCEEDED A:APPLIED/COUNTER", "COUNTER_STALE"}},
		{"a card never seen", func(s *scene) { s.begin("S"); s.try("S", "x", 7); s.highest() }, []string{"VERIFIED", "highest 7"}},
		{"wrong MAC1, then right", func(s *scene) {
			s.ask(7, "A")
			s.begin("S")
			s.try("S", "wrong", 7)
			s.try("S", "x", 7)
			s.state(7, "A")
		},
			[]string{"APPROVED", "MAC_MISMATCH", "SETTLEMENT_EXPIRED", "A OPEN"}},
		{"wrong MAC1 proves no counter", func(s *scene) { s.ask(7, "A"); s.begin("S"); s.try("S", "wrong", 9); s.highest() },
			[]string{"APPROVED", "MAC_MISMATCH", "highest 7"}},
		{"the same try again", func(s *scene) { s.ask(7, "A"); s.begin("S"); s.try("S", "x", 7); s.ask(7, "B"); s.try("S", "x", 7) },
			[]string{"APPROVED", "VERIFIED A:NOT_APPLIED/SETTLEMENT", "APPROVED", "VERIFIED recorded A:NOT_APPLIED/SETTLEMENT"}},
		{"cancelled by an authorisation", func(s *scene) { s.begin("S"); s.ask(7, "A"); s.try("S", "x", 7); s.state(7, "A") },
			[]string{"APPROVED", "SETTLEMENT_EXPIRED", "A OPEN"}},
		{"not cancelled by a retry", func(s *scene) { s.ask(7, "A"); s.begin("S"); s.ask(7, "A"); s.try("S", "x", 7) },
			[]string{"APPROVED", "APPROVED recorded", "VERIFIED A:NOT_APPLIED/SETTLEMENT"}},
		{"replaced by another", func(s *scene) { s.begin("S"); s.begin("T"); s.try("S", "x", 7); s.try("T", "y", 7) },
			[]string{"SETTLEMENT_EXPIRED", "VERIFIED"}},
		{"refused, and used up", func(s *scene) {
			s.begin("S")
			s.tryRefused("S", "x", 7, ledger.KeyNotActive)
			s.try("S", "y", 7)
			s.try("S", "x", 7)
		},
			[]string{"KEY_NOT_ACTIVE", "SETTLEMENT_EXPIRED", "KEY_NOT_ACTIVE recorded"}},
		{"at its last moment", func(s *scene) { s.begin("S"); s.now = s.now.Add(time.Minute); s.try("S", "x", 7) }, []string{"VERIFIED"}},
		{"after it", func(s *scene) { s.begin("S"); s.now = s.now.Add(time.Minute + 1); s.try("S", "x", 7) }, []string{"SETTLEMENT_EXPIRED"}},
		{"after it, the clock set back", func(s *scene) {
			s.begin("S")
			s.now = s.now.Add(time.Hour)
			s.try("S", "x", 7)
			s.now = s.now.Add(-time.Hour)
			s.try("S", "x", 7)
			s.try("S", "y", 7)
		}, []string{"SETTLEMENT_EXPIRED", "SETTLEMENT_EXPIRED recorded", "SETTLEMENT_EXPIRED"}},
	} {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, g.rehearse(test.scene)) })
	}
}

func TestMAC1FailuresLockACard(t *testing.T) {
	g := newStage(t)
	for _, test := range []struct {
		name  string
		scene func(*scene)
		want  []string
	}{
		{"at the limit, once", func(s *scene) { s.fail(4, 3) }, []string{"false false", "false false", "true true", "false true"}},
		{"never", func(s *scene) { s.fail(3, 0) }, []string{"false false", "false false", "false false"}},
		{"not when a new authorisation lies between", func(s *scene) { s.fail(2, 3); s.ask(7, "A"); s.fail(2, 3) },
			[]string{"false false", "false false", "APPROVED", "false false", "false false"}},
		{"but when only a retry does", func(s *scene) { s.ask(7, "A"); s.fail(2, 3); s.ask(7, "A"); s.fail(1, 3) },
			[]string{"APPROVED", "false false", "false false", "APPROVED recorded", "true true"}},
		{"until it is lifted", func(s *scene) {
			s.fail(1, 1)
			s.lift()
			s.lift()
			s.fail(1, 2)
		},
			[]string{"true true", "true", "false", "false false"}},
	} {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, g.rehearse(test.scene)) })
	}
}

func TestOutcomeOfAState(t *testing.T) {
	for state, outcome := range map[store.State]ledger.Outcome{
		store.Open: ledger.Approved, store.Verified: ledger.Verified, store.Applied: ledger.Applied,
		store.NotApplied: ledger.NotApplied, store.Undetermined: ledger.Undetermined, "": "",
	} {
		require.Equal(t, outcome, ledger.OutcomeOf(state), state)
	}
}

// A reset forgets what the old card proved, and settles nothing as if it knew.
func TestReset(t *testing.T) {
	g := newStage(t)
	for _, test := range []struct {
		name  string
		scene func(*scene)
		want  []string
	}{
		{"of a purse that nobody has seen", func(s *scene) { s.reset(); s.ask(0, "A") }, []string{"reset", "APPROVED"}},
		{"what is open is undetermined", func(s *scene) {
			s.ask(7, "A")
			s.ask(7, "B")
			s.reset()
			s.state(7, "A")
			s.state(7, "B")
			s.highest()
		},
			[]string{"APPROVED", "APPROVED", "reset A:UNDETERMINED/RESET B:UNDETERMINED/RESET", "A UNDETERMINED RESET", "B UNDETERMINED RESET", "highest -1"}},
		{"what is settled stays so", func(s *scene) { s.ask(7, "A"); s.ask(8, "B"); s.reset(); s.state(7, "A") },
			[]string{"APPROVED", "APPROVED A:APPLIED/COUNTER", "reset B:UNDETERMINED/RESET", "A APPLIED COUNTER"}},
		{"the new card begins below", func(s *scene) { s.ask(900, "A"); s.reset(); s.ask(0, "B"); s.ask(1, "C") },
			[]string{"APPROVED", "reset A:UNDETERMINED/RESET", "APPROVED", "APPROVED B:APPLIED/COUNTER"}},
		{"the new card comes to a counter and random of the old", func(s *scene) {
			s.ask(7, "A")
			s.reset()
			s.ask(7, "A", tomorrow)
			s.ask(7, "A", tomorrow)
			s.ask(8, "B")
		}, []string{"APPROVED", "reset A:UNDETERMINED/RESET", "APPROVED", "APPROVED recorded", "APPROVED A:APPLIED/COUNTER"}},
		{"the new card passes the counters of the old", func(s *scene) { s.ask(7, "A"); s.reset(); s.ask(6, "B"); s.ask(8, "C") },
			[]string{"APPROVED", "reset A:UNDETERMINED/RESET", "APPROVED", "APPROVED B:APPLIED/COUNTER unexplained 7-7"}},
		{"a settlement that was begun is cancelled", func(s *scene) { s.ask(7, "A"); s.begin("S"); s.reset(); s.try("S", "x", 7) },
			[]string{"APPROVED", "reset A:UNDETERMINED/RESET", "SETTLEMENT_EXPIRED"}},
		{"ten at one counter are forgotten", func(s *scene) {
			for i := range 10 {
				s.ask(7, fmt.Sprint(i))
			}
			s.log = nil
			s.reset()
			s.log = nil
			s.ask(7, "A")
		}, []string{"APPROVED"}},
	} {
		t.Run(test.name, func(t *testing.T) { require.Equal(t, test.want, g.rehearse(test.scene)) })
	}
}
