package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/kcv"
	"github.com/pursekeeper/pursekeeper/crypto/keyblock"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/custody/ceremony"
	"github.com/pursekeeper/pursekeeper/hsm"
)

// cipherOf is a transport key's cipher, by its length in bits.
var cipherOf = map[int]keyblock.Cipher{
	112: keyblock.CipherTDES2, 168: keyblock.CipherTDES3, 128: keyblock.CipherAES128, 192: keyblock.CipherAES192, 256: keyblock.CipherAES256,
}

// transportSpec is how the token finds and checks a transport key. Of a check value of five bytes it compares the first three.
func transportSpec(name string, bits int, value string) (spec hsm.TransportSpec, err error) {
	value = value[:min(len(value), 2*kcv.Size)]
	spec = hsm.TransportSpec{Name: name, Cipher: cipherOf[bits]}
	spec.KCV, err = kcv.Parse(value)
	return spec, err
}

// importTransport is transport.import from components.
func importTransport(ctx context.Context, room *strongroom, screen *console, _ warrant, record *ceremony.Record) (made custody.Made, undo func(context.Context) error, err error) {
	plan := record.Plan
	spec, err := transportSpec(plan.Transport, plan.Material.Bits, plan.KCV.Value)
	if err != nil {
		return made, nil, err
	}
	if record.Whole, err = ceremony.Enter(ctx, screen, plan); err != nil {
		return made, nil, err
	}
	defer record.Whole.Key.Wipe()
	if err := ceremony.ConfirmSubject(ctx, screen, plan); err != nil {
		return made, nil, err
	}
	ctx = context.WithoutCancel(ctx) // the last word was typed
	undo = func(ctx context.Context) error {
		err := room.token.DestroyTransportKey(ctx, spec)
		if errors.Is(err, hsm.ErrKeyNotFound) {
			return nil
		}
		return err
	}
	if err := undo(ctx); err != nil { // of an earlier try of this change: it has the check value, and the catalogue no key of the name
		return made, undo, err
	}
	if _, err := room.token.ImportTransportKey(ctx, spec, record.Whole.Key); err != nil {
		return made, undo, err
	}
	record.Outcome = "the transport key is in the token: destroy it when the keys have moved"
	made.Transport = &custody.MadeTransport{KCV: plan.KCV, Label: "pursekeeper/transport/" + plan.Transport}
	return made, undo, nil
}

// transport finds the transport key of the plan in the token, as the catalogue has it.
func (r *strongroom) transport(ctx context.Context, plan *ceremony.Plan, w warrant) (*hsm.TransportKey, error) {
	known := w.catalogue.Transport(plan.Transport)
	if known == nil {
		return nil, fmt.Errorf("there is no transport key %s", plan.Transport)
	}
	spec, err := transportSpec(known.Name, known.Bits, known.KCV.Value)
	if err != nil {
		return nil, err
	}
	return r.token.TransportKey(ctx, spec)
}

// maxBlock bounds the file of a key block: the longest block has 9999 characters.
const maxBlock = 10_000

// importBlock is key.import from a key block. The master is in locked memory from the opening of the block until the token has it.
func importBlock(ctx context.Context, room *strongroom, screen *console, w warrant, record *ceremony.Record) (made custody.Made, undo func(context.Context) error, err error) {
	plan := record.Plan
	spec, under, err := newMaster(plan, w)
	if err != nil {
		return made, nil, err
	}
	transport, err := room.transport(ctx, plan, w)
	if err != nil {
		return made, nil, err
	}
	text, err := os.ReadFile(plan.Block)
	if err == nil && len(text) > maxBlock {
		err = fmt.Errorf("%s: over %d bytes", plan.Block, maxBlock)
	}
	if err != nil {
		return made, nil, err
	}
	received, key, err := hsm.UnwrapMaster(ctx, transport, spec, byte(plan.Name.Version), strings.TrimSpace(string(text)))
	if err != nil {
		return made, nil, err
	}
	defer key.Wipe()
	if err := plan.Material.CheckWhole(key); err != nil {
		return made, nil, err
	}
	if err := screen.Show(fmt.Sprintf("The key block holds %s with check value %v, parity %v.\n", plan.Subject(), received.Purse.Check, received.Parity)); err != nil {
		return made, nil, err
	}
	if err := ceremony.ConfirmSubject(ctx, screen, plan); err != nil {
		return made, nil, err
	}
	record.Details = append(record.Details, [2]string{"transport", plan.Transport}, [2]string{"parity", received.Parity.String()})
	return room.keep(ctx, w, spec, under, key, record)
}

// exportBlock is key.export. The block leaves when the change is applied, and its record durable: one that was written before could leave by a
// process that is killed, as often as one likes, and the record would say nothing.
func exportBlock(ctx context.Context, room *strongroom, screen *console, w warrant, record *ceremony.Record) (made custody.Made, undo func(context.Context) error, err error) {
	plan := record.Plan
	if err := absent(plan.Block); err != nil {
		return made, nil, fmt.Errorf("block: %w", err)
	}
	set := w.catalogue.KeySet(plan.Set)
	key := set.Key(plan.Name)
	if key.Wrapped == "" {
		return made, nil, fmt.Errorf("key %s has no copy: it was made never to leave its token", key.Label)
	}
	spec, err := masterSpec(set.Definition, *key)
	if err != nil {
		return made, nil, err
	}
	wrapped, err := hex.DecodeString(key.Wrapped)
	if err != nil {
		return made, nil, err
	}
	transport, err := room.transport(ctx, plan, w)
	if err != nil {
		return made, nil, err
	}
	if err := screen.Show(fmt.Sprintf("%s with check value %s leaves, under the transport key %s.\n", plan.Subject(), plan.KCV.Value, plan.Transport)); err != nil {
		return made, nil, err
	}
	if err := ceremony.ConfirmSubject(ctx, screen, plan); err != nil {
		return made, nil, err
	}
	opens, err := room.backupKey(ctx, *w.catalogue.Backup)
	if err != nil {
		return made, nil, fmt.Errorf("the key's copy: %w", err)
	}
	defer opens.Wipe()
	block, err := hsm.ExportKeyBlock(ctx, spec, opens, wrapped, transport, byte(plan.Name.Version))
	if err != nil {
		return made, nil, err
	}
	room.release = func() error { return writeNew(plan.Block, []byte(block+"\n")) }
	record.Outcome = "the key is in the key block too; whoever has the transport key has it"
	record.Details = append(record.Details, [2]string{"transport", plan.Transport}, [2]string{"key block", plan.Block})
	return made, func(context.Context) error { return nil }, nil
}
