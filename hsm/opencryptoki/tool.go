package opencryptoki

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	tool = "pkcsconf"
	// toolLimit bounds a run of the tool: one that asks a question we do not know would wait for ever.
	toolLimit = 30 * time.Second

	softToken = "IBM SoftTok"

	// The PINs of every token as it is before anybody initializes it.
	factorySOPIN = "87654321"
	factoryPIN   = "12345678"
)

// Init initializes a software token that nobody has initialized yet, through a pkcsslotd that runs: it gives it the label and sets both
// PINs, of which none is left as the factory made it. A token that is initialized is never touched. The label has 1 to 32 bytes, a
// PIN 4 to 8 printable ASCII characters.
//
// The tool takes PINs as arguments, which every user of the machine may read in /proc, or asks for them; so it is asked, and is given
// the answers through a pipe. To initialize through C_InitToken would load the library into this process, which may have it
// loaded already.
func Init(ctx context.Context, label, pin, soPIN string) (Token, error) {
	if err := validate(label, pin, soPIN); err != nil {
		return Token{}, err
	}
	module, err := Find()
	if err != nil {
		return Token{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, toolLimit)
	defer cancel()
	slot, err := freeSlot(ctx)
	if err != nil {
		return Token{}, err
	}
	for _, step := range []struct {
		option  string
		answers []string
	}{
		{"-I", []string{factorySOPIN, label}},
		{"-P", []string{factorySOPIN, soPIN, soPIN}},
		{"-u", []string{soPIN, pin, pin}},
	} {
		if _, err := run(ctx, step.answers, "-c", strconv.Itoa(slot.number), step.option); err != nil {
			return Token{}, err
		}
	}
	made, err := slots(ctx)
	if err != nil {
		return Token{}, err
	}
	for _, s := range made {
		if s.number == slot.number && s.label == label && s.ready() {
			return Token{Module: module, Label: label, Slot: slot.number}, nil
		}
	}
	return Token{}, fmt.Errorf("opencryptoki: slot %d: the token is not initialized, though %s said so", slot.number, tool)
}

// slot is what the tool shows of one token.
type slot struct {
	number              int
	label, model, flags string
}

func (s slot) has(flag string) bool { return strings.Contains(s.flags, flag+"|") }

func (s slot) ready() bool {
	return s.has("|TOKEN_INITIALIZED") && s.has("|USER_PIN_INITIALIZED") && !s.has("PIN_TO_BE_CHANGED")
}

func freeSlot(ctx context.Context) (slot, error) {
	all, err := slots(ctx)
	if err != nil {
		return slot{}, err
	}
	for _, s := range all {
		if s.model == softToken && !s.has("|TOKEN_INITIALIZED") {
			return s, nil
		}
	}
	return slot{}, fmt.Errorf("opencryptoki: none of %d tokens is a software token that is not initialized", len(all))
}

// slots are all tokens, as "pkcsconf -t" lists them.
func slots(ctx context.Context) (all []slot, err error) {
	out, err := run(ctx, nil, "-t")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		var number int
		if _, err := fmt.Sscanf(line, "Token #%d Info:", &number); err == nil {
			all = append(all, slot{number: number})
			continue
		}
		name, value, found := strings.Cut(line, ": ")
		if !found || len(all) == 0 {
			continue
		}
		last := &all[len(all)-1]
		switch name {
		case "Label":
			last.label = strings.TrimSpace(value)
		case "Model":
			last.model = strings.TrimSpace(value)
		case "Flags": // such as "0x44D (RNG|LOGIN_REQUIRED|)"
			last.flags = value
		}
	}
	return all, nil
}

// run runs the tool and gives it answers, line by line. Its exit status is 0 also where it failed: what it prints beside its
// questions is then the error. It never prints what it was given.
func run(ctx context.Context, answers []string, arguments ...string) (out string, err error) {
	path, err := lookTool(tool)
	if err != nil {
		return "", err
	}
	command := exec.CommandContext(ctx, path, arguments...)
	command.Stdin = strings.NewReader(strings.Join(append(answers, ""), "\n"))
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	err = command.Run()
	complaint := complaintIn(said.String())
	if err != nil || complaint != nil {
		return "", fmt.Errorf("opencryptoki: %s %s: %w", tool, arguments[len(arguments)-1], errors.Join(ctx.Err(), err, complaint))
	}
	return said.String(), nil
}

// complaintIn is the error in what the tool printed, or nil. It comes after a question, on the same line or the next.
func complaintIn(out string) error {
	for _, beginning := range []string{"Error ", "Incorrect PIN", "New PINs do not match"} {
		if at := strings.Index(out, beginning); at >= 0 {
			return firstLine(out[at:])
		}
	}
	return nil
}

// firstLine is the first line of what a program complained of, or nil.
func firstLine(complaint string) error {
	line, _, _ := strings.Cut(strings.TrimSpace(complaint), "\n")
	if line == "" {
		return nil
	}
	return errors.New(line)
}

// lookTool finds a program of openCryptoki, also for a user whose PATH lacks the folder of the system's programs.
func lookTool(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath(filepath.Join("/usr/sbin", name))
	}
	if err != nil {
		return "", fmt.Errorf("opencryptoki: %s: %w", name, ErrNotInstalled)
	}
	return path, nil
}
