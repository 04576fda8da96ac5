package main

import (
	"context"
	"errors"

	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/audit/tiles"
	"github.com/pursekeeper/pursekeeper/audit/verifier"
	"github.com/pursekeeper/pursekeeper/signer"
)

// sealedRecord is a node's own log, as its auditors are shown it. It implements signer.SealedRecord.
type sealedRecord struct{ node *node }

func (r sealedRecord) log(ctx context.Context) (verifier.Log, string, error) {
	key, err := r.node.checkpointKey(ctx)
	if err != nil {
		return verifier.Log{}, "", err
	}
	return verifier.Log{Folder: tiles.Folder(r.node.config.Audit.Directory), Key: key}, key.text, nil
}

// Checkpoint returns the newest checkpoint of the node's folder; the zero value before the first.
func (r sealedRecord) Checkpoint(ctx context.Context) (signer.Checkpoint, error) {
	log, key, err := r.log(ctx)
	if err != nil {
		return signer.Checkpoint{}, err
	}
	signed, c, err := log.Checkpoint()
	if errors.Is(err, verifier.ErrNoCheckpoint) {
		return signer.Checkpoint{}, nil
	}
	return signer.Checkpoint{Signed: signed, Size: c.Size, Key: key}, err
}

// Each yields entries of the node's folder.
func (r sealedRecord) Each(ctx context.Context, from, size uint64, yield func(uint64, []byte, audit.Entry) error) error {
	log, _, err := r.log(ctx)
	if err != nil {
		return err
	}
	return log.Each(ctx, from, size, yield)
}

// Prove makes the file that audit prove makes.
func (r sealedRecord) Prove(ctx context.Context, index uint64) (entry []byte, proof string, err error) {
	log, _, err := r.log(ctx)
	if err != nil {
		return nil, "", err
	}
	p, err := verifier.Prove(log.Folder, log.Key, index)
	if err != nil {
		return nil, "", err
	}
	return p.Entry, p.String(), nil
}
