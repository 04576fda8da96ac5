package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/past"
	"github.com/pursekeeper/pursekeeper/audit/sealer"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/witness"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// sealing is a node's sealer with what offers its checkpoints to witnesses, which run from newNode to close, and the key of its checkpoints.
type sealing struct {
	sealer *sealer.Sealer
	offers *witness.Offerer
	stop   context.CancelFunc
	ended  chan struct{}

	mu  sync.Mutex // guards key
	key *checkpointKey
}

// checkpointKey signs checkpoints: it is a note.Signer whose name is the log's origin.
type checkpointKey struct {
	note.Verifier
	text  string // the verifier key, as note writes it
	where string // TOKEN or SOFTWARE
	sign  func(message []byte) ([]byte, error)
}

func (k *checkpointKey) Sign(message []byte) ([]byte, error) { return k.sign(message) }

// Where the key of the checkpoints is, as the record says it.
const (
	keyInToken    = "TOKEN"
	keyInSoftware = "SOFTWARE"
)

// signingTime bounds one signature of the token: a caller that waits for longer tries again.
const signingTime = 5 * time.Second

// seal begins to seal the record.
func (n *node) seal(ctx context.Context) {
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	n.sealing.offers = n.offerer()
	n.sealing.sealer = sealer.New(sealer.Config{
		Folder: tiles.Folder(n.config.Audit.Directory), Holder: host + ":" + n.config.Audit.Directory, Record: n.store, Log: n.log, Alarm: n.alarm,
		LastRounds: min(signingTime, n.config.ShutdownTimeout), Published: n.sealing.offers.Published,
		Key: func(ctx context.Context) (note.Signer, note.Verifier, error) {
			key, err := n.checkpointKey(ctx)
			if err != nil {
				return nil, nil, err
			}
			return key, key, nil
		},
	})
	ctx, n.sealing.stop = context.WithCancel(context.WithoutCancel(ctx)) // it outlives the service, to seal its last entries
	n.sealing.ended = make(chan struct{})
	go func() {
		defer close(n.sealing.ended)
		var both sync.WaitGroup
		both.Go(func() { n.sealing.offers.Run(ctx) })
		both.Go(func() { n.sealing.sealer.Run(ctx) })
		both.Wait()
	}()
}

// past is the sealed record, as replays read it.
func (n *node) past() *past.Reader {
	return &past.Reader{Database: n.store, Folder: tiles.Folder(n.config.Audit.Directory), Key: func(ctx context.Context) (note.Verifier, error) {
		return n.checkpointKey(ctx)
	}}
}

// endSealing seals what is there and ends; before the store and the token do.
func (n *node) endSealing() {
	if n.sealing.stop != nil {
		n.sealing.stop()
		<-n.sealing.ended
	}
}

// sealingStatus is how the sealing stands; the zero value while it has not begun.
func (n *node) sealingStatus() sealer.Status {
	if n.sealing.sealer == nil {
		return sealer.Status{}
	}
	return n.sealing.sealer.Status()
}

// checkpointKey finds or makes the key of the checkpoints, once. Beside the log's folder lies its verifier key: another key than that is
// refused, for a log keeps its key as long as it lives.
func (n *node) checkpointKey(ctx context.Context) (*checkpointKey, error) {
	n.sealing.mu.Lock()
	defer n.sealing.mu.Unlock()
	if n.sealing.key != nil {
		return n.sealing.key, nil
	}
	key, err := tokenSigningKey(ctx, n.token, n.config.Audit.Origin)
	if errors.Is(err, keyderive.ErrUnsupported) && n.config.Token.Development {
		key, err = softwareCheckpointKey(n.config.Audit.Directory+".key", n.config.Audit.Origin)
		if err == nil {
			n.log.Warn("the token has no Ed25519: the checkpoints of the record are signed in software, for development alone")
		}
	}
	if err != nil {
		return nil, err
	}
	if err := publishKey(n.config.Audit.Directory+".pub", key.text); err != nil {
		return nil, err
	}
	n.sealing.key = key
	return key, nil
}

// tokenSigningKey is the key of a token that signs checkpoints, and reports.
func tokenSigningKey(ctx context.Context, token *hsm.Token, origin string) (*checkpointKey, error) {
	pair, err := token.SigningKey(ctx, "audit")
	if err != nil {
		return nil, err
	}
	return newCheckpointKey(origin, keyInToken, pair.Public(), func(message []byte) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), signingTime) // note.Signer has no context
		defer cancel()
		return pair.Sign(ctx, message)
	})
}

func newCheckpointKey(origin, where string, public ed25519.PublicKey, sign func([]byte) ([]byte, error)) (*checkpointKey, error) {
	text, err := note.NewEd25519VerifierKey(origin, public)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(text)
	if err != nil {
		return nil, fmt.Errorf("audit.origin: %w", err)
	}
	return &checkpointKey{verifier, text, where, sign}, nil
}

// softwareCheckpointKey reads or makes a key in a file. It lies on the Go heap as long as the process lives: it signs for a development
// signer, on a token without Ed25519.
func softwareCheckpointKey(file, origin string) (*checkpointKey, error) {
	private, err := readPrivateKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		private, err = makePrivateKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint key in software: %w", err)
	}
	return newCheckpointKey(origin, keyInSoftware, private.Public().(ed25519.PublicKey), func(message []byte) ([]byte, error) {
		return ed25519.Sign(private, message), nil
	})
}

func readPrivateKey(file string) (ed25519.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM", file)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: not a private key in PKCS #8", file) // the error could quote it
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: not an Ed25519 key", file)
	}
	return private, nil
}

func makePrivateKey(file string) (ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	return private, os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
}

// publishKey writes the verifier key beside the log, or compares it with the one that is there.
func publishKey(file, text string) error {
	had, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return replaceFile(file, []byte(text+"\n"), 0o644)
	case err != nil:
		return err
	case string(had) != text+"\n":
		return fmt.Errorf("%w: the key of the checkpoints is %s, and %s says another: the log's key was lost, or exchanged",
			sealer.ErrRefused, text, filepath.Base(file))
	}
	return nil
}

// checkpointKeyFinding is the entry that says which key seals the record, and where it is.
func (n *node) checkpointKeyFinding(ctx context.Context) audit.Entry {
	finding := audit.Entry{Event: audit.CheckpointKey}
	key, err := n.checkpointKey(ctx)
	if err != nil {
		finding.Outcome, finding.Detail = "NOT_AVAILABLE", err.Error()
	} else {
		finding.Outcome, finding.Detail = key.where, key.text
	}
	n.log.Info("checkpoint key", "where", finding.Outcome, "key", finding.Detail)
	return finding
}
