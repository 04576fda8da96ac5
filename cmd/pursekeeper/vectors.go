package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/hsm"
	"github.com/pursekeeper/pursekeeper/hsm/softhsm"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/internal/secret"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/testvectors"
)

// vectorsCmd is what auditors do with test vectors.
type vectorsCmd struct {
	Replay vectorsReplayCmd `cmd:"" help:"Replay test vectors in a token and in memory, and compare every value."`

	CheckReport vectorsCheckReportCmd `cmd:"" help:"Verify a report of a replay, offline. Ends with 0 only when it is what the key signed and all vectors held."`
}

// vectorsReplayCmd replays vectors. Its status is 0 only when every value of every vector held.
type vectorsReplayCmd struct {
	File   string   `help:"File of vectors instead of those in the program." placeholder:"FILE"`
	Target string   `help:"Where to replay: ${enum}." enum:"token,memory,all" default:"all"`
	Config string   `help:"Use the token of this configuration, with keys of the session alone; without it, a throw-away SoftHSM token." placeholder:"FILE"`
	Report []string `help:"Write a report that the token signs, to a new file that ends in .html (a page for persons) or .json; may be repeated." placeholder:"FILE" type:"path" sep:"none"`
}

// errVectors ends the process with 1; what failed is printed before.
var errVectors = errors.New("test vectors do not hold")

const (
	vectorsOnToken  = "token"
	vectorsInMemory = "memory"
)

// Run replays and prints a table.
func (c *vectorsReplayCmd) Run(ctx context.Context) error { return replayVectors(ctx, os.Stdout, *c) }

// replayVectors reads the vectors before it opens a token, so that a bad file costs nothing.
func replayVectors(ctx context.Context, out io.Writer, c vectorsReplayCmd) (err error) {
	if c.Target == vectorsInMemory && c.Config != "" {
		return errors.New("config: has no use with --target=memory")
	}
	if err := checkReports(c); err != nil {
		return err
	}
	files, err := vectorsFiles(c.File)
	if err != nil {
		return err
	}
	var token *hsm.Token
	var profile hsm.Profile
	var engines []testvectors.Engine
	if c.Target != vectorsInMemory {
		var done func() error
		token, profile, done, err = vectorsToken(ctx, c.Config)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, done()) }()
		if err := printVectorsBoundaries(out, token); err != nil {
			return err
		}
		engines = append(engines, newVectorsEngine(token))
	}
	if c.Target != vectorsOnToken {
		engines = append(engines, testvectors.Memory())
	}
	report, err := replayOn(ctx, engines, files)
	if err != nil {
		return err
	}
	if err := report.Print(out); err != nil {
		return err
	}
	if len(c.Report) > 0 {
		if err := writeReports(ctx, out, c, token, profile, files, report); err != nil {
			return err
		}
	}
	if !report.Holds() {
		return errVectors
	}
	return nil
}

func replayOn(ctx context.Context, engines []testvectors.Engine, files []testvectors.File) (report testvectors.Report, err error) {
	for _, engine := range engines {
		for _, file := range files {
			part, err := testvectors.Replay(ctx, engine, file)
			if err != nil {
				return report, fmt.Errorf("replay vectors on %s: %w", engine.Name(), err)
			}
			report.Merge(part)
		}
	}
	return report, nil
}

// vectorsFiles are the file named, or those in the program.
func vectorsFiles(name string) ([]testvectors.File, error) {
	if name == "" {
		return testvectors.Embedded()
	}
	r, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("vectors: %w", err)
	}
	defer func() { _ = r.Close() }() // read only
	file, err := testvectors.Load(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	file.Name = name
	return []testvectors.File{file}, nil
}

// vectorsToken opens the configured token, without its keys, or a throw-away one. done gives all of it back.
func vectorsToken(ctx context.Context, configFile string) (token *hsm.Token, profile hsm.Profile, done func() error, err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	remove := func() error { return nil }
	var c hsm.Config
	if configFile == "" {
		c, remove, err = vectorsThrowAway(log)
	} else {
		c, err = vectorsConfigured(configFile, log)
	}
	if err != nil {
		return nil, profile, nil, err
	}
	if profile = c.Profile; profile.Name == "" {
		profile.Name, profile.Tested = hsm.ProfileSoftHSM, true
	}
	token, err = hsm.Open(ctx, c)
	if err != nil {
		if token != nil { // it holds the latch of a refused PIN
			err = errors.Join(err, token.Close())
		}
		return nil, profile, nil, errors.Join(err, remove())
	}
	return token, profile, func() error { return errors.Join(token.Close(), remove()) }, nil
}

func vectorsConfigured(file string, log *slog.Logger) (hsm.Config, error) {
	cfg, err := config.Read(file)
	if err != nil {
		return hsm.Config{}, err
	}
	cfg.KeySets = nil // a replay uses no key of the token
	return tokenConfig(cfg, log)
}

// vectorsThrowAway makes a SoftHSM token with random PINs in a folder that remove takes away.
func vectorsThrowAway(log *slog.Logger) (c hsm.Config, remove func() error, err error) {
	dir, err := os.MkdirTemp("", "pursekeeper-vectors-")
	if err != nil {
		return c, nil, fmt.Errorf("throw-away token: %w", err)
	}
	remove = func() error { return os.RemoveAll(dir) }
	pin := rand.Text()
	token, err := softhsm.Init(dir, "vectors", pin, rand.Text())
	if err == nil {
		err = os.Setenv(softhsm.ConfVariable, token.ConfPath)
	}
	if err != nil {
		return c, nil, errors.Join(fmt.Errorf("throw-away token: %w", err), remove())
	}
	return hsm.Config{
		Module: token.Module, TokenLabel: token.Label, Log: log,
		PIN: func(context.Context) (secret.Bytes, error) { return secret.Copy([]byte(pin)), nil },
	}, remove, nil
}

// vectorsEngine is the token under the name that reports have for it. Each key is there as objects of the session, at the
// strictest boundary that the token has the mechanisms for.
type vectorsEngine struct{ hsm.Replay }

func newVectorsEngine(token *hsm.Token) vectorsEngine {
	return vectorsEngine{token.Replay(keyderive.BoundaryToken)}
}

func (vectorsEngine) Name() string { return vectorsOnToken }

// printVectorsBoundaries says where the token has keys of each kind, a line for each boundary and algorithm.
func printVectorsBoundaries(out io.Writer, token *hsm.Token) error {
	for boundary := keyderive.BoundaryToken; boundary <= keyderive.BoundaryProcess; boundary++ {
		for alg := suite.TDES; alg.Valid(); alg++ {
			var kinds []string
			for _, kind := range keyderive.Kinds() {
				if token.Strictest(kind, alg) == boundary {
					kinds = append(kinds, kind.String())
				}
			}
			if len(kinds) == 0 {
				continue
			}
			if _, err := fmt.Fprintf(out, "boundary %-7v  %v: %s\n", boundary, alg, strings.Join(kinds, ", ")); err != nil {
				return err
			}
		}
	}
	return nil
}
