package conformance

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html"
	"html/template"
	"time"
)

//go:embed page.html
var pageText string

// page shows a report. html/template escapes every text of it by its place: the names in a file of vectors are its author's.
var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"moment": func(t time.Time) string { return t.UTC().Format("2 January 2006, 15:04:05 UTC") },
}).Parse(pageText))

// shown is what the template sees.
type shown struct {
	Report
	Text string // the report, encoded
	Note string
	// Kinds are the rows of the table of boundaries, Algorithms its columns.
	Algorithms []string
	Kinds      []boundaryRow
}

type boundaryRow struct {
	Kind       string
	Boundaries []string
}

// Page is the report as a page for persons: one file that loads nothing.
func (s Signed) Page() ([]byte, error) {
	v := shown{Report: s.report, Text: string(s.text), Note: s.note}
	v.Algorithms, v.Kinds = table(s.report.Boundaries)
	var out bytes.Buffer
	if err := page.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("report page: %w", err)
	}
	return out.Bytes(), nil
}

// table turns boundaries into rows of kinds and columns of algorithms, both in the order in which they come first.
func table(all []Boundary) (algorithms []string, rows []boundaryRow) {
	column, row := map[string]int{}, map[string]int{}
	for _, b := range all {
		if _, known := column[b.Algorithm]; !known {
			column[b.Algorithm] = len(algorithms)
			algorithms = append(algorithms, b.Algorithm)
		}
		if _, known := row[b.Kind]; !known {
			row[b.Kind] = len(rows)
			rows = append(rows, boundaryRow{Kind: b.Kind})
		}
	}
	for i := range rows {
		rows[i].Boundaries = make([]string, len(algorithms))
	}
	for _, b := range all {
		rows[row[b.Kind]].Boundaries[column[b.Algorithm]] = b.Boundary
	}
	return algorithms, rows
}

// The places of the report and the note in a page: what is between was escaped, so neither end can be in it.
var (
	reportBegins = []byte(`<pre id="report">`)
	noteBegins   = []byte(`<pre id="note">`)
	preEnds      = []byte(`</pre>`)
)

// embedded finds the report and the note in a page. Whether the page shows them is for Open to compare.
func embedded(content []byte) (text []byte, signed string, err error) {
	report, reportErr := between(content, reportBegins)
	written, noteErr := between(content, noteBegins)
	return []byte(report), written, errors.Join(reportErr, noteErr)
}

func between(content, begins []byte) (string, error) {
	_, rest, found := bytes.Cut(content, begins)
	inside, _, ends := bytes.Cut(rest, preEnds)
	if !found || !ends {
		return "", fmt.Errorf("report page: no %s", begins)
	}
	return html.UnescapeString(string(inside)), nil
}
