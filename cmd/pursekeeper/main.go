// Command pursekeeper is the signer service and the tools around it: one file per command group, and this file, which
// decides nothing.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// commands are the command groups; each is a struct in a file of its own.
type commands struct {
	Dev      devCmd      `cmd:"" help:"Serve a development signer: makes all it needs in .pursekeeper, asks nothing."`
	Serve    serveCmd    `cmd:"" help:"Serve from a configuration file."`
	Demo     demoCmd     `cmd:"" help:"Load, charge, unload, block and unblock a 3DES and an SM4 card through a signer over mTLS, and show each step."`
	Vectors  vectorsCmd  `cmd:"" help:"Replay test vectors."`
	Bench    benchCmd    `cmd:"" help:"Measure the signer beside the bare token."`
	Card     cardCmd     `cmd:"" help:"Try every operation by hand on a test card that is kept in a file; and unlock a card, as an officer."`
	Key      keyCmd      `cmd:"" help:"List the keys and their states, and compare them with the token."`
	Ceremony ceremonyCmd `cmd:"" help:"Hold a ceremony from its file: keys from components, components for others, the backup key."`
	Backup   backupCmd   `cmd:"" help:"Write catalogue, officers, wrapped keys and configuration into one sealed file."`
	Share    shareCmd    `cmd:"" help:"Take an officer's encrypted share out of a backup, to be decrypted elsewhere."`
	Restore  restoreCmd  `cmd:"" help:"Put a backup into an empty token and an empty store."`
	Migrate  migrateCmd  `cmd:"" help:"Bring the store's schema up to date, as its owner."`
	Init     initCmd     `cmd:"" help:"Register the first officers, once, with their SSH keys and the quorum."`
	Change   changeCmd   `cmd:"" help:"Propose a change of keys or officers, and approve, reject or cancel one."`
	Client   clientCmd   `cmd:"" help:"List the clients, suspend one at once, and ask for it to be resumed."`
	Policy   policyCmd   `cmd:"" help:"Check, test, explain and compare the rules that officers approve."`
	Audit    auditCmd    `cmd:"" help:"Verify the sealed record, and prove entries of it, offline."`
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parsed := kong.Parse(&commands{},
		kong.Name("pursekeeper"),
		kong.Description("Signs for electronic purses with keys that do not leave their token."),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
	err := parsed.Run()
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "pursekeeper: %s\n", said(err))
	code := exitCode(1)
	errors.As(err, &code)
	stop()
	os.Exit(int(code)) //nolint:gocritic // stop has run
}

// said is an error for a terminal: a signer that is not the right one words some of them.
func said(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return strings.Join(lines, "\n")
}

// exitCode is an error that asks for a process status of its own.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }
