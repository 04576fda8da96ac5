package config

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/peers"
	"github.com/pursekeeper/pursekeeper/internal/source"
)

// Token is the hardware security module.
type Token struct {
	Module      string
	Label       string
	PIN         *source.Source
	SoftHSMConf string // empty: the environment's own
	Profile     hsm.Profile
	InFlight    int
	Queue       int
	Hang        time.Duration
	Development bool
}

func (c *checker) token(file TokenFile) Token {
	t := Token{Label: file.Label, Development: file.Development}
	t.Module, _ = c.existing("token.module", file.Module)
	if n := len(file.Label); n < 1 || n > 32 {
		c.refuse("token.label", "%q: expected 1 to 32 bytes", file.Label)
	}
	t.PIN = take[*source.Source](c, "token.pin")(source.New(file.PIN, c.dir))
	if file.SoftHSMConf != "" {
		t.SoftHSMConf, _ = c.existing("token.softhsmConf", file.SoftHSMConf)
	}
	if profile, ok := c.tokenProfile("token.profile", file.Profile); ok {
		t.Profile, c.device = profile, &profile
	}
	t.InFlight = c.count("token.inFlight", file.InFlight, DefaultInFlight, 256)
	t.Queue = c.count("token.queue", file.Queue, DefaultQueue, 1<<20)
	t.Hang = c.duration("token.hang", file.Hang, DefaultHang, 100*time.Millisecond)
	return t
}

// tokenProfile is a shipped one, or a file's: a shipped name has neither slash nor dot.
func (c *checker) tokenProfile(field, name string) (hsm.Profile, bool) {
	if name == "" {
		name = hsm.ProfileSoftHSM
	}
	return named(c, field, name, hsm.ShippedProfile, hsm.ParseProfile)
}

// named finds what goes by a shipped name or is in a file.
func named[T any](c *checker, field, name string, shipped func(string) (T, error), parse func([]byte) (T, error)) (value T, ok bool) {
	var err error
	if !strings.ContainsAny(name, "/.") {
		value, err = shipped(name)
	} else if path, found := c.existing(field, name); !found {
		return value, false
	} else if data, readErr := os.ReadFile(path); readErr != nil {
		err = readErr
	} else {
		value, err = parse(data)
	}
	c.err(field, err)
	return value, err == nil
}

// count is a number from 1 to most.
func (c *checker) count(field string, n *int, fallback, most int) int {
	if n == nil {
		return fallback
	}
	if *n < 1 || *n > most {
		c.refuse(field, "%d: expected 1 to %d", *n, most)
	}
	return *n
}

// maxGrace is the most that a list of revoked certificates may be out of date.
const maxGrace = 7 * 24 * time.Hour

// tls reads the certificates, for what is wrong with them now: the service reads them itself, and again when they change.
func (c *checker) tls(file TLSFile) (f peers.Files) {
	var certificate, key, ca, crl bool
	f.Certificate, certificate = c.existing("tls.certificate", file.Certificate)
	f.Key, key = c.existing("tls.key", file.Key)
	f.ClientCA, ca = c.existing("tls.clientCA", file.ClientCA)
	if crl = file.CRL == ""; !crl {
		f.CRL, crl = c.existing("tls.crl", file.CRL)
	}
	f.Grace = c.duration("tls.crlGrace", file.CRLGrace, 0, time.Second)
	c.atMost("tls.crlGrace", f.Grace, maxGrace)
	if file.CRLGrace != "" && file.CRL == "" {
		c.refuse("tls.crlGrace", "has no use without tls.crl")
	}
	if certificate && key {
		_, err := peers.ReadServer(f, time.Now())
		c.peer(err)
	}
	if ca && crl {
		_, err := peers.ReadClients(f, time.Now())
		c.peer(err)
	}
	return f
}

// peer takes a problem with a file of certificates.
func (c *checker) peer(err error) {
	var p *peers.Problem
	switch {
	case errors.As(err, &p) && p.Field != "":
		c.refuse("tls."+p.Field, "%v", p.Err)
	case errors.As(err, &p):
		c.refuse("tls", "%v", p.Err)
	case err != nil:
		c.err("tls", err)
	}
}
