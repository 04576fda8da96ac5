package testvectors

import (
	"context"
	"slices"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
)

// Replay runs every vector of the file on the engine and reports every value. A vector that cannot run has all its values
// failed; an error is returned only when ctx ends.
func Replay(ctx context.Context, engine Engine, file File) (Report, error) {
	var report Report
	for i := range file.Vectors {
		v := &file.Vectors[i]
		checks, err := v.replay(ctx, engine)
		if ctx.Err() != nil {
			return Report{}, ctx.Err()
		}
		if err != nil {
			checks = v.failAll(err)
		}
		report.add(v, file.Name, engine.Name(), v.account(checks))
	}
	return report, nil
}

// replay runs one vector: its card key, then what its main key makes, then its TAC, each with its own key in the engine
// for as long as that takes.
func (v *Vector) replay(ctx context.Context, engine Engine) ([]check, error) {
	into := &results{}
	values := outputs{alg: v.Algorithm, out: v.Out, refused: v.Refused}
	main := v.main
	if v.Operation == OperationTAC {
		main = v.tac
	}
	if values.wants(CardKeyValue) {
		kind := v.task.kind()
		if kind.Folds() && v.Algorithm == suite.TDES {
			kind = keyderive.KindMaintenance // the fold of a key does not tell all of it
		}
		err := v.lend(ctx, engine, kind, main, into, func(card keyderive.Card) error {
			_, factor, _ := main.split()
			return into.cardKey(ctx, kind, card, factor, values)
		})
		if err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(v.expected(), func(value Value) bool { return value != CardKeyValue && value != TACValue }) {
		err := v.lend(ctx, engine, v.task.kind(), main, into, func(card keyderive.Card) error {
			return v.task.run(card, values, into)
		})
		if err != nil {
			return nil, err
		}
	}
	if values.wants(TACValue) {
		err := v.lend(ctx, engine, keyderive.KindTAC, v.tac, into, func(card keyderive.Card) error {
			tac, err := card.TAC()
			if err != nil {
				return err
			}
			return into.verify(tac, TACValue, v.task.certified(), values)
		})
		if err != nil {
			return nil, err
		}
	}
	return into.checks, nil
}

// lend puts a key of the vector into the engine and lends the card key to use, along the path of a live transaction. The
// derived keys are seen where the engine shows them.
func (v *Vector) lend(ctx context.Context, engine Engine, kind keyderive.Kind, given givenKey, into *results, use func(keyderive.Card) error) error {
	into.sight = nil
	if engine.ShowsKeys() {
		into.sight = &sight{}
	}
	key := secret.Copy(given.bytes)
	defer key.Wipe()
	issuer, factor, ok := given.split()
	if !ok {
		return engine.WithCard(ctx, kind, v.Algorithm, key, func(whole, left keyderive.Unit) error {
			if into.sight != nil {
				into.sight.given = given.bytes
				whole = watched{whole, into.sight, 1}
			}
			return use(keyderive.CardOf(v.Algorithm, whole, left))
		})
	}
	return engine.WithMaster(ctx, kind, v.Algorithm, key, func(k keyderive.Key) error {
		if into.sight != nil {
			k = watchedKey{k, into.sight}
		}
		return keyderive.NewMaster(k, issuer).WithCard(ctx, factor, use)
	})
}

// failAll is every value of a vector that could not run.
func (v *Vector) failAll(err error) []check {
	into := &results{}
	for _, value := range v.expected() {
		into.fail(value, err.Error(), nil)
	}
	return into.checks
}

// account is the checks in the order of Values, one for each value of Out: a value that no check is about has failed.
func (v *Vector) account(checks []check) []check {
	into := &results{}
	for _, value := range v.expected() {
		i := slices.IndexFunc(checks, func(c check) bool { return c.value == value })
		if i < 0 {
			into.fail(value, problemUnchecked, nil)
			continue
		}
		into.checks = append(into.checks, checks[i])
	}
	return into.checks
}
