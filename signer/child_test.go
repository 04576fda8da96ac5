package signer

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// childDatabase, in the environment, makes this test binary a signer over that file that serves its standard input, for a
// parent that kills it.
const childDatabase = "PURSEKEEPER_TEST_CHILD_DATABASE"

// childDay gives the child killedLimits, so many days later.
const childDay = "PURSEKEEPER_TEST_CHILD_DAY"

func TestMain(m *testing.M) {
	if path := os.Getenv(childDatabase); path != "" {
		serve(path)
		return
	}
	if path := os.Getenv(tillDatabase); path != "" {
		serveTill(path)
		return
	}
	os.Exit(m.Run())
}

// call is one request to the child; the answer carries its number. Card is the serial number of a settlement's card.
type call struct {
	Number int
	Do     string
	Load   LoadRequest
	ID     string
	Card   string
	Value  string // a TAC, or a settlement's answer

	Purchase PurchaseRequest // of a till
}

// reply is the part of an answer that the parent looks at.
type reply struct {
	Number  int
	Error   string
	Outcome ledger.Outcome
	ID      string
	MAC2    string
	Command string

	// Of a till.
	MAC1, Serial, Frame string
	Sequence            uint32
}

// serve makes a signer that answers at once, so that many wait for each commit.
func serve(path string) {
	b := &bench{path: path, clock: time.Date(2024, 1, 31, 15, 59, 59, 0, time.UTC)}
	if day, err := strconv.Atoi(os.Getenv(childDay)); err == nil {
		b.clock = b.clock.AddDate(0, 0, day)
		b.open(childTB{}, under(childTB{}, killedLimits))
	} else {
		b.open(childTB{})
	}
	serveLines(b.serve)
}

// serveLines answers every line of standard input at once.
func serveLines(serve func(call) reply) {
	var out sync.Mutex
	encoder := json.NewEncoder(os.Stdout)
	answer := func(r reply) {
		out.Lock()
		defer out.Unlock()
		if err := encoder.Encode(r); err != nil {
			os.Exit(3)
		}
	}
	answer(reply{}) // ready
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var c call
		if err := json.Unmarshal(in.Bytes(), &c); err != nil {
			os.Exit(4)
		}
		go func() { answer(serve(c)) }()
	}
}

func (b *bench) serve(c call) reply {
	r := reply{Number: c.Number}
	var err error
	switch c.Do {
	case "authorise":
		var a Authorization
		a, err = b.AuthorizeLoad(context.Background(), b.caller, c.Load)
		r.Outcome, r.ID, r.MAC2, r.Command = a.Outcome, a.TransactionID, a.MAC2, a.Command
	case "confirm":
		var a Confirmation
		a, err = b.ConfirmLoad(context.Background(), b.caller, c.ID, c.Value)
		r.Outcome = a.Outcome
	case "begin":
		var s Settlement
		s, err = b.BeginSettlement(context.Background(), b.caller, "demo", c.Card, "", purse.EP)
		r.Outcome, r.ID, r.Command = s.Outcome, s.ID, s.Command
	case "settle":
		var s Settled
		s, err = b.SettleLoad(context.Background(), b.caller, c.ID, c.Value)
		r.Outcome = s.Outcome
	default:
		err = fmt.Errorf("no such call: %q", c.Do)
	}
	if err != nil {
		r.Error = err.Error()
	}
	return r
}

// childTB is what the bench needs of a test where there is none: a failure ends the process.
type childTB struct{ testing.TB }

func (childTB) Helper()        {}
func (childTB) Cleanup(func()) {}
func (childTB) FailNow()       { os.Exit(2) }

func (childTB) Errorf(format string, a ...any) { fmt.Fprintf(os.Stderr, format+"\n", a...) }
