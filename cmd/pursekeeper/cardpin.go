package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/internal/source"
)

// pinFlags say where a card holder's PIN comes from: never the command line, which every user of the machine can read.
type pinFlags struct {
	PINFile string `name:"pin-file" help:"File with the PIN, its owner's alone (mode 0400 or 0600)." type:"path" placeholder:"FILE" xor:"pin"`
	PINEnv  string `name:"pin-env" help:"Environment variable with the PIN. With neither, the terminal is asked." placeholder:"NAME" xor:"pin"`
}

func (f pinFlags) given() bool { return f.PINFile != "" || f.PINEnv != "" }

// pin reads the PIN; the caller wipes it. what is what a person is asked for.
func (f pinFlags) pin(ctx context.Context, what string) (secret.Bytes, error) {
	if !f.given() {
		return askTerminal(ctx, what)
	}
	from, err := source.New(source.Spec{File: f.PINFile, Env: f.PINEnv}, "")
	if err != nil {
		return secret.Bytes{}, err
	}
	digits, err := from.Read(ctx)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("PIN: %w", err)
	}
	return digits, nil
}

// askTerminal reads a line from the terminal with its echo off. An interrupt gives the terminal back as it was.
func askTerminal(ctx context.Context, what string) (secret.Bytes, error) {
	in := int(os.Stdin.Fd())
	if !term.IsTerminal(in) {
		return secret.Bytes{}, errors.New("PIN: there is no terminal to ask; give --pin-file or --pin-env")
	}
	before, err := term.GetState(in)
	if err != nil {
		return secret.Bytes{}, fmt.Errorf("PIN: %w", err)
	}
	fmt.Fprintf(os.Stderr, "%s: ", what)
	type line struct {
		text []byte
		err  error
	}
	read := make(chan line, 1)
	go func() {
		text, err := term.ReadPassword(in)
		read <- line{text, err}
	}()
	select {
	case <-ctx.Done():
		return secret.Bytes{}, errors.Join(ctx.Err(), term.Restore(in, before))
	case typed := <-read:
		fmt.Fprintln(os.Stderr)
		if typed.err != nil {
			return secret.Bytes{}, fmt.Errorf("PIN: %w", typed.err)
		}
		return secret.Take(typed.text), nil
	}
}
