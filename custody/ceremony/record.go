package ceremony

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Approval is one officer's signature over the change.
type Approval struct {
	Officer string
	Key     string // the SSH key's fingerprint
	At      time.Time
}

// Record is what is printed and signed by hand at the end: what was done, and nothing that must not be read.
type Record struct {
	Plan      *Plan
	At        time.Time
	Reason    string // of the change
	Author    string
	Approvals []Approval
	Whole     Whole  // of a ceremony with components
	Outcome   string // one sentence
	Revision  uint64 // of the catalogue afterwards; 0 of MakeComponents
	Token     string
	Program   string
	Details   [][2]string // what this kind has beside: a name and a value each
}

// Write writes the record as text, at most 100 characters wide.
func (r Record) Write(w io.Writer) error {
	var b strings.Builder
	line := func(name, format string, args ...any) {
		fmt.Fprintf(&b, "%-14s %s\n", name, fmt.Sprintf(format, args...))
	}
	b.WriteString("CEREMONY RECORD\n\n")
	line("ceremony", "%s of %s", r.Plan.Kind, r.Plan.Subject())
	line("date", "%s", r.At.UTC().Format(time.RFC3339))
	line("outcome", "%s", r.Outcome)
	r.change(line)
	r.key(line)
	for _, detail := range r.Details {
		line(detail[0], "%s", detail[1])
	}
	if r.Token != "" {
		line("token", "%s", r.Token)
	}
	line("program", "%s", r.Program)
	b.WriteString("\nPresent, each with a signature:\n\n")
	for i, c := range r.Plan.Custodians {
		fmt.Fprintf(&b, "  %-40s %s\n\n", fmt.Sprintf("%s, component %d", c.Name, i+1), strings.Repeat("_", 40))
	}
	for _, name := range append(append([]string(nil), r.Plan.Holders...), r.Plan.Present...) {
		fmt.Fprintf(&b, "  %-40s %s\n\n", name, strings.Repeat("_", 40))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (r Record) change(line func(name, format string, args ...any)) {
	if r.Plan.Change == "" {
		return
	}
	line("change", "%s", r.Plan.Change)
	line("reason", "%q", r.Reason)
	line("proposed by", "%s", r.Author)
	for _, a := range r.Approvals {
		line("approved by", "%s at %s with %s", a.Officer, a.At.UTC().Format(time.RFC3339), a.Key)
	}
	line("catalogue", "revision %d", r.Revision)
}

func (r Record) key(line func(name, format string, args ...any)) {
	if r.Plan.Material.Algorithm == "" {
		return
	}
	line("key", "%v", r.Plan.Material)
	if r.Plan.Boundary != 0 {
		line("boundary", "%v", r.Plan.Boundary)
	}
	for i, v := range r.Whole.Components {
		line(fmt.Sprintf("component %d", i+1), "check value %v, of %s", v, r.Plan.Custodians[i].Name)
	}
	whole := r.Plan.KCV.Value
	if whole == "" {
		whole = r.Whole.KCV.String()
	}
	line("whole key", "check value %s (%s)", whole, r.Plan.Material.checkValueName())
	if r.Whole.Adjusted > 0 {
		line("parity", "%d parity bits of the whole key were set; DES does not use them", r.Whole.Adjusted)
	}
}
