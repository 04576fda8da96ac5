package main

import (
	"context"
	"encoding/hex"
	"os"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/custody/escrow"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// cmdBlock is `block FILE KIND KVER KEY TRANSPORT`: the other party's key block of a 3DES master, in its memory.
func cmdBlock(ts *testscript.TestScript, _ bool, args []string) {
	transport, spec, kver, key := blockOf(ts, args)
	header, err := hsm.MasterHeader(spec, kver, transport)
	ts.Check(err)
	text, err := hsm.WrapKeyBlock(context.Background(), transport, header, key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}

// cmdUnblock is `unblock FILE KIND KVER KEY TRANSPORT`: the other party finds this key in it.
func cmdUnblock(ts *testscript.TestScript, _ bool, args []string) {
	transport, spec, kver, key := blockOf(ts, args)
	_, got, err := hsm.UnwrapMaster(context.Background(), transport, spec, kver, strings.TrimSpace(ts.ReadFile(args[0])))
	ts.Check(err)
	if !got.Equal(key) {
		ts.Fatalf("another key is in the block")
	}
}

func blockOf(ts *testscript.TestScript, args []string) (keyblock.Protector, hsm.KeySpec, byte, secret.Bytes) {
	raw := func(digits string) secret.Bytes {
		b, err := hex.DecodeString(digits)
		ts.Check(err)
		return secret.Take(b)
	}
	transport, err := keyblock.InMemory(keyblock.CipherAES128, raw(args[4]))
	ts.Check(err)
	kind, err := keyderive.ParseKind(args[1])
	ts.Check(err)
	kver, err := strconv.Atoi(args[2])
	ts.Check(err)
	key := raw(args[3])
	block, err := suite.TDES.New(key.Reveal("test"))
	ts.Check(err)
	return transport, hsm.KeySpec{Label: "x", Kind: kind, Algorithm: suite.TDES, Boundary: keyderive.BoundaryCard, KCV: kcv.Of(block)}, byte(kver), key
}

// cmdShare is `share FILE WORD BACKUP IDENTITY KEY`: the text of the share that the identity opens, in the place of the word.
func cmdShare(ts *testscript.TestScript, _ bool, args []string) {
	verifier, err := keyFlag{Key: ts.MkAbs(args[4])}.verifier()
	ts.Check(err)
	file, err := escrow.Read([]byte(ts.ReadFile(args[2])), verifier)
	ts.Check(err)
	_, share, err := openShare(context.Background(), file.Backup, ts.MkAbs(args[3]))
	ts.Check(err)
	text := share.Encode()
	typed := strings.Replace(ts.ReadFile(args[0]), args[1], string(text.Reveal("test")), 1)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(typed), 0o600))
}
