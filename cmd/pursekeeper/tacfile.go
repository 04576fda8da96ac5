package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pursekeeper/pursekeeper/signer"
)

// A file of TACs is text in lines, each ended by LF. The first line is tacHeader. Every other line is one TAC: the fields of VerifyTac
// that the header names, in its order, parted by commas, each written as VerifyTac takes it and empty where VerifyTac has it left out.
// There are no quotes, for no field can hold a comma, no comments and no empty lines. A line that is not so ends the reading, by its
// number; what a field says is for the signer to judge, TAC by TAC. The header is line 1.
const tacHeader = "keySet,cardSerial,issuerId,keyVersion,type,amountFen,terminalId,terminalSerial,counter,balanceFen," +
	"oldLimitFen,newLimitFen,date,time,tac"

// longestTACLine is more than any line has whose fields are well-formed, in bytes.
const longestTACLine = 512

// tacReader reads a file of TACs without holding more of it than a batch.
type tacReader struct {
	in   *bufio.Reader
	line int // the last that was read
	kept *signer.TACRequest
}

func newTACReader(in io.Reader) (*tacReader, error) {
	r := &tacReader{in: bufio.NewReaderSize(in, 1<<20)}
	header, err := r.text()
	if errors.Is(err, io.EOF) || err == nil && header != tacHeader {
		return nil, fmt.Errorf("line 1: expected %q", tacHeader)
	}
	return r, err
}

// text is the next line without its LF. A file that ends in the middle of a line was cut.
func (r *tacReader) text() (string, error) {
	raw, err := r.in.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF) && len(raw) == 0:
		return "", io.EOF
	case errors.Is(err, io.EOF):
		return "", fmt.Errorf("line %d: the file ends in the middle of it", r.line+1)
	case errors.Is(err, bufio.ErrBufferFull) || len(raw) > longestTACLine:
		return "", fmt.Errorf("line %d: over %d bytes", r.line+1, longestTACLine)
	case err != nil:
		return "", err
	}
	r.line++
	return string(raw[:len(raw)-1]), nil
}

// tacBatch is some lines of one key set, one after another.
type tacBatch struct {
	keySet string
	first  int // line
	items  []signer.TACRequest
}

// next reads up to most lines of one key set; the last answer is io.EOF.
func (r *tacReader) next(most int) (b tacBatch, err error) {
	b.items = make([]signer.TACRequest, 0, most)
	for len(b.items) < most {
		item := r.kept
		r.kept = nil
		if item == nil {
			if item, err = r.item(); err != nil {
				break
			}
		}
		if len(b.items) == 0 {
			b.keySet, b.first = item.KeySet, r.line
		}
		if item.KeySet != b.keySet {
			r.kept = item
			break
		}
		b.items = append(b.items, *item)
	}
	if errors.Is(err, io.EOF) && len(b.items) > 0 {
		err = nil
	}
	return b, err
}

// item reads one line.
func (r *tacReader) item() (*signer.TACRequest, error) {
	text, err := r.text()
	if err != nil {
		return nil, err
	}
	var fields [15]string
	for i := range fields {
		var more bool
		if fields[i], text, more = strings.Cut(text, ","); more != (i < len(fields)-1) {
			return nil, fmt.Errorf("line %d: expected %d fields", r.line, len(fields))
		}
	}
	n := tacNumbers{line: r.line}
	item := &signer.TACRequest{
		KeySet: fields[0], CardSerial: fields[1], IssuerID: fields[2], KeyVersion: uint32(n.of("keyVersion", fields[3], 32)), Type: fields[4],
		AmountFen: n.of("amountFen", fields[5], 64), TerminalID: fields[6], TerminalSerial: fields[7], Counter: fields[8],
		BalanceFen: n.optional("balanceFen", fields[9]), OldLimitFen: n.optional("oldLimitFen", fields[10]),
		NewLimitFen: n.optional("newLimitFen", fields[11]), Date: fields[12], Time: fields[13], TAC: fields[14],
	}
	return item, n.err
}

// tacNumbers reads the decimal fields of one line and keeps the first error.
type tacNumbers struct {
	line int
	err  error
}

func (n *tacNumbers) of(field, text string, bits int) uint64 {
	if text == "" {
		return 0
	}
	value, err := strconv.ParseUint(text, 10, bits)
	if (err != nil || strconv.FormatUint(value, 10) != text) && n.err == nil {
		n.err = fmt.Errorf("line %d: %s: expected a decimal number", n.line, field)
	}
	return value
}

func (n *tacNumbers) optional(field, text string) *uint64 {
	if text == "" {
		return nil
	}
	value := n.of(field, text, 64)
	return &value
}
