package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/purse"
)

// tacDeck makes a file of purchase TACs of the demonstration key sets, in memory with the published test masters. It is the same
// file for the same numbers.
type tacDeck struct {
	algorithms []suite.Algorithm // equal parts of the file, one after another
	count      int
	cards      int // of each algorithm; 0: as many as TACs
	forge      int // TACs with a wrong bit, spread over the file
}

// demoSetOf is the demonstration key set of an algorithm.
func demoSetOf(alg suite.Algorithm) string {
	if alg == suite.SM4 {
		return "demo-sm4"
	}
	return "demo"
}

// write makes the file at path, which must not be there, and returns the lines of the forged TACs. The file has its name only when it
// is whole.
func (d tacDeck) write(ctx context.Context, path string) (forged []int, err error) {
	file, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(path+".new"))
		}
	}()
	out := bufio.NewWriterSize(file, 1<<20)
	_, err = out.WriteString(tacHeader + "\n")
	for part, alg := range d.algorithms {
		from, to := d.count*part/len(d.algorithms), d.count*(part+1)/len(d.algorithms)
		if err == nil {
			err = d.deal(ctx, out, alg, from, to)
		}
	}
	if err = errors.Join(err, out.Flush(), file.Close()); err != nil {
		return nil, err
	}
	for i := range d.forge {
		forged = append(forged, d.forged(i)+firstTACLine)
	}
	return forged, os.Rename(path+".new", path)
}

// firstTACLine is the line of the first TAC: the header is line 1.
const firstTACLine = 2

// isForged spreads the forged TACs evenly: at each place their share of what has been dealt is rounded, and one is forged where that
// has grown.
func (d tacDeck) isForged(at int) bool { return d.dealt(at+1) > d.dealt(at) }

func (d tacDeck) dealt(items int) int { return (items*d.forge + d.count/2) / d.count }

// forged is the place of the i-th forged TAC.
func (d tacDeck) forged(i int) int { return ((i+1)*d.count-d.count/2+d.forge-1)/d.forge - 1 }

// deal writes the TACs from one place to another, some thousands at a time.
func (d tacDeck) deal(ctx context.Context, out *bufio.Writer, alg suite.Algorithm, from, to int) error {
	clear, err := demoMasters[keyderive.KindTAC].bytes()
	if err != nil {
		return err
	}
	defer clear.Wipe()
	key, err := keyderive.InMemory(alg, clear)
	if err != nil {
		return err
	}
	issuer, err := keyderive.ParseFactor(demoIssuer)
	if err != nil {
		return err
	}
	master := keyderive.NewMaster(key, keyderive.RootFirst(issuer))
	cards := make([]keyderive.Factor, 0, 4096)
	for ; from < to; from += len(cards) {
		cards = cards[:0]
		for at := from; at < min(to, from+cap(cards)); at++ {
			cards = append(cards, d.card(at))
		}
		err := master.WithCards(ctx, cards, func(i int, c keyderive.Card) error { return d.line(out, alg, from+i, cards[i], c) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (d tacDeck) card(at int) (card keyderive.Factor) {
	if d.cards > 0 {
		at %= d.cards
	}
	binary.BigEndian.PutUint64(card[:], 0x3105228200000000+uint64(at))
	return card
}

// line writes one purchase, of ED and of EP in turn.
func (d tacDeck) line(out *bufio.Writer, alg suite.Algorithm, at int, factor keyderive.Factor, c keyderive.Card) error {
	tti := []purse.TTI{purse.TTIPurchaseEP, purse.TTIPurchaseED}[at%2]
	terminal, day := purse.Terminal{0x11, 0x22, 0x33, 0x44, 0x55, 0x66}, purse.Date{0x20, 0x24, 0x01, 0x31}
	tsn, amount, clock := purse.TSN(at), purse.Fen(100+at%9900), purse.Time{0x12, 0x00, 0x00}
	p, err := purse.NewPurchase(purse.PurchaseInit{}, tti, tsn, amount, terminal)
	if err != nil {
		return err
	}
	key, err := c.TAC()
	if err != nil {
		return err
	}
	tac, err := key.MAC(p.TACData(day, clock))
	if err != nil {
		return err
	}
	if d.isForged(at) {
		tac[at%len(tac)] ^= 0x10
	}
	_, err = fmt.Fprintf(out, "%s,%v,,1,%02X,%d,%v,%v,,,,,%v,%v,%s\n",
		demoSetOf(alg), factor, uint8(tti), amount, terminal, tsn, day, clock, hex.EncodeToString(tac[:]))
	return err
}
