package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/pursekeeper/pursekeeper/internal/config"
)

// devCmd serves a development signer.
type devCmd struct {
	Dir      string `help:"Folder of the development signer." default:".pursekeeper" type:"path"`
	Listen   string `help:"Address of the API." default:"127.0.0.1:7443"`
	Admin    string `help:"Address of health, readiness and metrics." default:"127.0.0.1:7444"`
	TestKeys string `help:"JSON file of further key sets with clear test keys." type:"existingfile" placeholder:"FILE"`
}

// Run makes what is missing and serves. It refuses a token that is not a development token.
func (c *devCmd) Run(ctx context.Context) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	folder := devFolder{dir: c.Dir, listen: c.Listen, admin: c.Admin, say: os.Stdout}
	cfg, err := folder.prepare(ctx, c.TestKeys, log)
	if err != nil {
		return err
	}
	return serve(ctx, cfg, log, func(public, admin net.Addr) {
		c.greet(os.Stdout, cfg, public, admin)
	})
}

// greet prints where the signer is and a request that works as pasted.
func (c *devCmd) greet(out io.Writer, cfg *config.Config, public, admin net.Addr) {
	fmt.Fprintf(out, "signer    https://%v   (mutual TLS; client certificates in %s)\n", public, filepath.Join(c.Dir, "tls"))
	fmt.Fprintf(out, "admin     http://%v/readyz and /metrics\n", admin)
	for _, set := range cfg.KeySets {
		fmt.Fprintf(out, "key set   %s (%v, %d keys; clear test keys, worth nothing)\n", set.Name, set.Algorithm, len(set.Keys))
	}
	fmt.Fprintf(out, "\nTry it:\n\n%s\n\nStop with Ctrl-C.\n", curl(c.Dir, public))
}

// curl is the request of the API guide for the demonstration card, in one line that works in any folder.
func curl(dir string, public net.Addr) string {
	const request = `{"keySet":"demo","cardSerial":"3105228000001117","purse":"PURSE_EP","amountFen":100,` +
		`"terminalId":"112233445566","initializeResponse":"000003E8 0007 01 00 A1B2C3D4 7E1722D0","date":"20240131","time":"235959"}`
	return fmt.Sprintf("curl -sS --cacert %[1]s/ca.crt --cert %[1]s/platform.crt --key %[1]s/platform.key "+
		"-H 'Content-Type: application/json' -d '%[3]s' https://%[2]s/pursekeeper.v1.SignerService/AuthorizeLoad",
		quoted(filepath.Join(dir, "tls")), reachable(public), request)
}

// quoted writes a path as a shell reads it.
func quoted(path string) string {
	if plainPath.MatchString(path) {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}

var plainPath = regexp.MustCompile(`^[A-Za-z0-9_./-]+$`)

// reachable is an address that the server's certificate names: a listener on all of the machine's has localhost too.
func reachable(public net.Addr) string {
	if tcp, ok := public.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
	}
	return public.String()
}
