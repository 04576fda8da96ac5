package softhsm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	tool = "softhsm2-util"
	// toolLimit bounds a run of the tool, which takes 10 ms: a tool that asks a question we do not know would wait for ever.
	toolLimit = 30 * time.Second
)

// initialize runs softhsm2-util on the token's first free slot. The tool takes PINs as arguments, which every user of the
// machine may read in /proc, or asks for them at a terminal; so it is given a terminal, and the answers: the security
// officer's PIN twice, then the user's twice. Initializing through C_InitToken would load the module into this process,
// which may have one loaded already, for another token.
func initialize(token Token, pin, soPIN string) error {
	path, err := exec.LookPath(tool)
	if err != nil {
		return fmt.Errorf("softhsm: %s: %w", tool, ErrNotInstalled)
	}
	keyboard, screen, err := openTerminal()
	if err != nil {
		return err
	}
	defer keyboard.Close()
	defer screen.Close()
	if _, err := fmt.Fprintf(keyboard, "%s\n%s\n%s\n%s\n", soPIN, soPIN, pin, pin); err != nil {
		return fmt.Errorf("softhsm: terminal: %w", err)
	}

	ctx, cancel := context.WithTimeout(context.Background(), toolLimit)
	defer cancel()
	// Only the tool's error output is kept: it never holds what was typed.
	var complaint bytes.Buffer
	command := exec.CommandContext(ctx, path, "--module", token.Module, "--init-token", "--free", "--label", token.Label)
	command.Env = append(os.Environ(), token.Env()...)
	command.Stdin = screen
	command.Stderr = &complaint
	if err := command.Run(); err != nil {
		return fmt.Errorf("softhsm: %s: %w", tool, errors.Join(ctx.Err(), err, firstLine(complaint.String())))
	}
	return nil
}

// firstLine is the first line of what the tool complained of, or nil.
func firstLine(complaint string) error {
	line, _, _ := strings.Cut(strings.TrimSpace(complaint), "\n")
	if line == "" {
		return nil
	}
	return errors.New(line)
}
