package testvectors

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
)

// Report is what became of every value of the vectors replayed.
type Report struct {
	Rows     []Row // one for each operation, algorithm and target, in that order
	Failures []Failure
	Vectors  []Result // one for each vector and target, in the order of their replay
}

// Result is what became of one vector: its values by their outcomes.
type Result struct {
	ID     string
	Source string
	File   string // its name
	Row           // of this vector alone
}

// Row counts the vectors of one operation and algorithm on one target, and what became of their values.
type Row struct {
	Operation Operation
	Algorithm suite.Algorithm
	Target    string // the engine's name

	Vectors  int
	Compared int
	ByEffect int
	Refused  int
	Failed   int
}

// Failure is one value that did not hold.
type Failure struct {
	ID      string // of the vector
	Target  string
	Value   Value
	Problem string
	Want    []byte
	Got     []byte // nil when there is none to show
}

// add counts one vector.
func (r *Report) add(v *Vector, file, target string, checks []check) {
	row := Row{Operation: v.Operation, Algorithm: v.Algorithm, Target: target, Vectors: 1}
	for _, c := range checks {
		switch c.outcome {
		case Compared:
			row.Compared++
		case ByEffect:
			row.ByEffect++
		case Refused:
			row.Refused++
		default:
			row.Failed++
			r.Failures = append(r.Failures, Failure{v.ID, target, c.value, c.problem, v.Out[c.value], c.got})
		}
	}
	r.addRow(row)
	r.Vectors = append(r.Vectors, Result{ID: v.ID, Source: v.Source, File: file, Row: row})
}

func (r *Report) addRow(row Row) {
	i, found := slices.BinarySearchFunc(r.Rows, row, compareRows)
	if !found {
		r.Rows = slices.Insert(r.Rows, i, row)
		return
	}
	at := &r.Rows[i]
	at.Vectors += row.Vectors
	at.Compared += row.Compared
	at.ByEffect += row.ByEffect
	at.Refused += row.Refused
	at.Failed += row.Failed
}

func compareRows(a, b Row) int {
	operations := Operations()
	if c := slices.Index(operations, a.Operation) - slices.Index(operations, b.Operation); c != 0 {
		return c
	}
	if c := int(a.Algorithm) - int(b.Algorithm); c != 0 {
		return c
	}
	return strings.Compare(a.Target, b.Target)
}

// Merge adds another replay, of another file or on another engine.
func (r *Report) Merge(other Report) {
	for _, row := range other.Rows {
		r.addRow(row)
	}
	r.Failures = append(r.Failures, other.Failures...)
	r.Vectors = append(r.Vectors, other.Vectors...)
}

// Holds reports whether there was something to compare and all of it held.
func (r Report) Holds() bool {
	total := r.Total()
	return total.values() > 0 && total.Failed == 0 && len(r.Failures) == 0
}

// Total is the sum of the rows; a vector counts once for each target.
func (r Report) Total() Row {
	var total Row
	for _, row := range r.Rows {
		total.Vectors += row.Vectors
		total.Compared += row.Compared
		total.ByEffect += row.ByEffect
		total.Refused += row.Refused
		total.Failed += row.Failed
	}
	return total
}

func (r Row) values() int { return r.Compared + r.ByEffect + r.Refused + r.Failed }

// Print writes the table, a line for each value that failed, and the sum as the last line. The values it shows are those
// of test vectors, which are public.
func (r Report) Print(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, err := fmt.Fprintln(table, "operation\talgorithm\ttarget\tvectors\tvalues compared\tcompared by effect\trefused as expected\tfailed\t")
	if err != nil {
		return err
	}
	for _, row := range r.Rows {
		if _, err := fmt.Fprintf(table, "%s\t%v\t%s\t%d\t%d\t%d\t%d\t%d\t\n",
			row.Operation, row.Algorithm, row.Target, row.Vectors, row.Compared, row.ByEffect, row.Refused, row.Failed); err != nil {
			return err
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	for _, f := range r.Failures {
		if _, err := fmt.Fprintln(w, f); err != nil {
			return err
		}
	}
	total := r.Total()
	_, err = fmt.Fprintf(w, "%d vectors, %d values, %d compared by effect, %d refused as expected, %d failed\n",
		total.Vectors, total.values(), total.ByEffect, total.Refused, total.Failed)
	return err
}

// String is one line: the vector, the target, the value, and what was wrong with it.
func (f Failure) String() string {
	line := fmt.Sprintf("FAILED %s on %s: %s %s: expected %X", f.ID, f.Target, f.Value, f.Problem, f.Want)
	if f.Got != nil {
		line += fmt.Sprintf(", got %X", f.Got)
	}
	return line
}
