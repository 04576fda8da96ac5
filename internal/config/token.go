package config

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"strings"
	"time"

	"github.com/pursekeeper/pursekeeper/hsm"
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

// tls reads the certificates. The private key stays on the Go heap as long as the process lives: that is how crypto/tls works.
func (c *checker) tls(file TLSFile) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: x509.NewCertPool()}
	certificate, found := c.existing("tls.certificate", file.Certificate)
	key, keyFound := c.existing("tls.key", file.Key)
	if keyFound {
		if info, err := os.Stat(key); err == nil && info.Mode().Perm()&0o077 != 0 {
			c.refuse("tls.key", "%s has mode %04o: readable by others than its owner; chmod 0400 it", key, info.Mode().Perm())
		}
	}
	if found && keyFound {
		pair, err := tls.LoadX509KeyPair(certificate, key)
		if err != nil {
			c.refuse("tls", "certificate and key: %v", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	if ca, found := c.existing("tls.clientCA", file.ClientCA); found {
		pem, err := os.ReadFile(ca)
		if err != nil {
			c.err("tls.clientCA", err)
		} else if !config.ClientCAs.AppendCertsFromPEM(pem) {
			c.refuse("tls.clientCA", "%s holds no certificate in PEM", ca)
		}
	}
	return config
}
