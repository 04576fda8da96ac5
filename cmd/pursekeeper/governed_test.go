package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/audit"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/internal/config"
	"github.com/pursekeeper/pursekeeper/keyderive"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/store"
)

// governed is a home whose keys are those of the catalogue. The test writes the catalogue itself, as an office would.
type governed struct {
	home
	config    string
	catalogue custody.Catalogue
}

// newGoverned takes dev's key sets out of its configuration and into a catalogue that is not written yet.
func newGoverned(t *testing.T) *governed {
	t.Helper()
	return governedHome(newHome(t))
}

func governedHome(h home) *governed {
	t := h.t
	t.Helper()
	g := &governed{home: h}
	dev, err := config.Read(g.path("pursekeeper.yaml"))
	require.NoError(t, err)
	for _, set := range dev.KeySets {
		s := custody.KeySet{Definition: custody.Definition{
			Name: set.Name, Algorithm: set.Algorithm, Profile: set.Profile.Name(), TimeZone: set.Location.String(), MAC1FailureLimit: set.MAC1Failures,
		}}
		if set.Issuer.Fixed.Len() > 0 {
			s.Issuer, s.Factors = "fixed", strings.Split(set.Issuer.Fixed.String(), "/")
		}
		for _, key := range set.Keys {
			s.Keys = append(s.Keys, custody.Key{
				Name: custody.Name{Kind: key.Kind, Version: key.Version}, State: key.State, Boundary: key.Boundary, Label: key.Label,
				KCV: custody.CheckValueOf(set.Algorithm, key.KCV), Origin: "generated", Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
			})
		}
		g.catalogue.KeySets = append(g.catalogue.KeySets, s)
	}
	g.catalogue.Rules = policy.Rules{Clients: dev.Clients, Policies: policy.Shipped()}
	text := g.read("pursekeeper.yaml")
	clients := strings.Index(text, "\nclients:\n") + 1
	from := strings.Index(text, "\nkeySets:\n") + 1
	rest := text[from+len("keySets:\n"):]
	to := slices.IndexFunc(strings.SplitAfter(rest, "\n"), func(line string) bool { return line != "" && line[0] != ' ' && line[0] != '\n' })
	require.Positive(t, clients)
	require.Greater(t, from, clients)
	after := ""
	if to >= 0 {
		after = strings.Join(strings.SplitAfter(rest, "\n")[to:], "")
	}
	text = strings.Replace(text[:clients]+after, "sqlite: state.db", "sqlite: governed.db", 1)
	require.Contains(t, text, "governed.db")
	text = strings.Replace(text, "directory: audit", "directory: governed-audit", 1)
	g.write("governed.yaml", text)
	g.config = g.path("governed.yaml")
	return g
}

func (g *governed) key(set string, kind keyderive.Kind) *custody.Key {
	return g.catalogue.KeySet(set).Key(custody.Name{Kind: kind, Version: 1})
}

// decide writes the catalogue's next revision.
func (g *governed) decide() {
	g.t.Helper()
	db, err := store.OpenSQLite(g.t.Context(), g.path("governed.db"))
	require.NoError(g.t, err)
	defer db.Close()
	g.catalogue.Revision++
	document, err := g.catalogue.Encode()
	require.NoError(g.t, err)
	require.NoError(g.t, db.Commit(g.t.Context(), store.Change{Custody: true, Decide: func(p *store.Purse, _ uint64) ([]audit.Entry, error) {
		*p.Custody() = store.Custody{Revision: g.catalogue.Revision, Document: document}
		return []audit.Entry{{Event: "Change", Time: time.Now(), Outcome: "APPLIED"}}, nil
	}}))
}

func (g *governed) entries() (all []audit.Entry) {
	g.t.Helper()
	db, err := store.OpenSQLite(g.t.Context(), g.path("governed.db"))
	require.NoError(g.t, err)
	defer db.Close()
	require.NoError(g.t, db.Entries(g.t.Context(), 0, func(_ uint64, line []byte) bool {
		var e audit.Entry
		require.NoError(g.t, json.Unmarshal(line, &e))
		all = append(all, e)
		return true
	}))
	return all
}

func demonstrationLoad() *v1.AuthorizeLoadRequest {
	return &v1.AuthorizeLoadRequest{
		KeySet: "demo", CardSerial: storySerial, Purse: v1.Purse_PURSE_EP, AmountFen: storyAmount, TerminalId: storyTerminal,
		InitializeResponse: "000003E8000701 00A1B2C3D47E1722D0", Date: storyDate, Time: storyTime,
	}
}

// A service without key sets of its own starts before there is a catalogue, says what is missing, follows the catalogue when it comes, and
// each change of it: by looking, and at once in what it commits.
func TestServeFollowsTheCatalogue(t *testing.T) {
	g := newGoverned(t)
	status, out := run(t, []string{"serve", "--check", "--config", g.config})
	require.Zero(t, status, out)
	require.Contains(t, out, "there are no officers and no keys yet: run `pursekeeper init`")
	status, out = run(t, []string{"key", "check", "--config", g.config})
	require.Equal(t, 1, status)
	require.Contains(t, out, "run `pursekeeper init`")

	s := serveChild(g.home, g.config)
	code, body := s.ask("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "pursekeeper init")
	_, err := s.client("platform").AuthorizeLoad(t.Context(), demonstrationLoad())
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "nobody may call yet: %v", err)

	g.key("demo", keyderive.KindLoad).Due = time.Now().Add(time.Hour).UTC().Truncate(time.Second)
	g.decide()
	eventually(t, "the catalogue is in use", s.ready)
	answer, err := s.client("platform").AuthorizeLoad(t.Context(), demonstrationLoad())
	require.NoError(t, err)
	require.Equal(t, "60B7B5B7", answer.Mac2)
	require.EqualValues(t, 1, s.metric("catalogue_revision"))
	require.EqualValues(t, 1, s.metric(`key_state\{key="demo/load/1",state="active"\}`))

	officer := []string{"--server", "https://" + s.public, "--tls", g.path("tls")}
	status, out = run(t, append([]string{"key", "list", "--set", "demo"}, officer...))
	require.Zero(t, status, out)
	assert.Regexp(t, `demo/load/1 +active +TOKEN +26C9F7 +generated +2026-01-02T03:04:05Z +- +20\S+Z +EXTRACTABLE_BY_PIN_HOLDER`, out)
	assert.NotContains(t, out, "demo-sm4")
	status, out = run(t, append([]string{"key", "due"}, officer...))
	require.Zero(t, status, out)
	assert.Regexp(t, `demo/load/1 +active +20\S+Z +pursekeeper key rotate --set demo --kinds load`, out)
	status, out = run(t, []string{"key", "check", "--config", g.config})
	require.Zero(t, status, out)
	assert.Contains(t, out, "of the catalogue, revision 1, each with its attributes and its check value, and no others")

	g.key("demo", keyderive.KindLoad).State = custody.Suspended
	g.decide()
	refused, err := s.client("platform").AuthorizeLoad(t.Context(), demonstrationLoad()) // at once: its commit finds the change
	require.NoError(t, err)
	require.Equal(t, v1.Outcome_OUTCOME_KEY_NOT_ACTIVE, refused.Outcome)
	require.EqualValues(t, 1, s.metric(`key_state\{key="demo/load/1",state="suspended"\}`))

	g.key("demo", keyderive.KindLoad).State = custody.Destroyed
	g.decide()
	eventually(t, "a change is found without a request", func() bool { return s.metric("catalogue_revision") == 3 })
	require.True(t, s.ready())
	require.Zero(t, s.terminate())
}

// What differs between the catalogue and the token is named at the start, in the log, the record, the metrics and by `key check`. The keys
// that differ fail closed, and the others work.
func TestServeNamesWhatDiffers(t *testing.T) {
	g := newGoverned(t)
	g.key("demo", keyderive.KindTAC).KCV.Value = "000000"
	g.key("demo", keyderive.KindUnload).State = custody.Destroyed
	g.key("demo", keyderive.KindOverdraft).Label = "demo/elsewhere/1"
	g.catalogue.Transports = []custody.Transport{{Name: "bank", Bits: 128, KCV: custody.CheckValue{Value: "000000", Algorithm: "AES-CMAC"}, Label: "pursekeeper/transport/bank"}}
	g.decide()
	differs := []string{
		`check value: key "demo/tac/1": `,
		`extra: key "demo/unload/1": it is destroyed in the catalogue, and still in the token`,
		`missing: key "demo/elsewhere/1": `,
		`extra: key "demo/overdraft/1": the catalogue has none`,
		`missing: key "pursekeeper/transport/bank": `,
	}
	status, out := run(t, []string{"key", "check", "--config", g.config})
	require.Equal(t, 1, status)
	for _, d := range differs {
		assert.Contains(t, out, d)
	}
	assert.Contains(t, out, fmt.Sprintf("%d differences between the catalogue, revision 1", len(differs)))
	status, out = run(t, []string{"serve", "--check", "--config", g.config})
	require.Equal(t, 1, status)
	assert.Contains(t, out, "demo/tac/1")

	s := serveChild(g.home, g.config)
	answer, err := s.client("platform").AuthorizeLoad(t.Context(), demonstrationLoad())
	require.NoError(t, err)
	require.Equal(t, "60B7B5B7", answer.Mac2, "a key that is what the catalogue says works")
	_, err = s.client("platform").ConfirmLoad(t.Context(), &v1.ConfirmLoadRequest{TransactionId: answer.TransactionId, Tac: "5D5364F0"})
	require.Equal(t, connect.CodeInternal, connect.CodeOf(err), "%v: a key that is another fails closed", err)
	require.EqualValues(t, len(differs), s.metric("key_differences"))
	code, body := s.ask("/readyz")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "demo/tac/1")
	require.Contains(t, body, "demo/elsewhere/1")
	require.GreaterOrEqual(t, s.metric(`alarms_total\{event="KeyDiffers"\}`), float64(len(differs)))
	require.Zero(t, s.terminate())
	var recorded []string
	for _, e := range g.entries() {
		if e.Event == audit.KeyDiffers {
			recorded = append(recorded, e.Detail)
		}
	}
	require.Len(t, recorded, len(differs))
	for _, d := range differs {
		assert.True(t, slices.ContainsFunc(recorded, func(r string) bool { return strings.HasPrefix(r, d) }), d)
	}
}

// Key sets that nobody decides on do not stand beside a catalogue, nor in a token of production.
func TestServeRefusesKeySetsBesideTheCatalogue(t *testing.T) {
	g := newGoverned(t)
	g.decide()
	beside := g.home.config("beside.yaml", edit{`sqlite: state.db`, "sqlite: governed.db"})
	status, out := run(t, []string{"serve", "--config", beside})
	require.Equal(t, 1, status)
	require.Contains(t, out, "the store has a catalogue")
	status, out = run(t, []string{"serve", "--check", "--config", g.home.config("production.yaml", production)})
	require.Equal(t, 1, status)
	require.Contains(t, out, "keySets: leave it out")
}

// A service whose token refused the PIN follows the catalogue, and adopts its keys once an operator has mended the PIN.
func TestServeFollowsTheCatalogueWithALatchedToken(t *testing.T) {
	g := newGoverned(t)
	right := g.read("pin")
	g.write("pin", "not-the-pin\n")
	s := serveChild(g.home, g.config)
	s.says("the token refused the PIN; after mending it, send SIGHUP")
	g.decide()
	eventually(t, "the catalogue is read", func() bool { return s.metric("catalogue_revision") == 1 })
	require.False(t, s.ready())
	_, err := s.client("platform").AuthorizeLoad(t.Context(), demonstrationLoad())
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
	g.write("pin", right)
	s.signal(syscall.SIGHUP)
	eventually(t, "ready", s.ready)
	answer, err := s.client("platform").AuthorizeLoad(t.Context(), demonstrationLoad())
	require.NoError(t, err)
	require.Equal(t, "60B7B5B7", answer.Mac2)
	tried := func() (outcome string) {
		for _, e := range g.entries() {
			if e.Event == audit.KeyExposure && e.Key.Set == "demo" && e.Key.Kind == "load" {
				outcome = e.Outcome
			}
		}
		return outcome
	}
	eventually(t, "the keys are tried", func() bool { return tried() == "EXTRACTABLE_BY_PIN_HOLDER" })
	require.Zero(t, s.metric(`alarms_total\{event="KeyDiffers"\}`), "a token that is away is no other token")
	require.Zero(t, s.terminate())
}

// A catalogue whose rules this program cannot use, because a newer one wrote them, is alarmed once and makes the node unready. It decides
// nothing by the rules that it has: a client may have been stopped since.
func TestServeWithRulesThatItCannotUse(t *testing.T) {
	g := newGoverned(t)
	g.decide()
	s := serveChild(g.home, g.config)
	eventually(t, "ready", s.ready)
	list := func() error {
		_, err := s.client("platform").ListTransactions(t.Context(), &v1.ListTransactionsRequest{KeySet: "demo"})
		return err
	}
	require.NoError(t, list())
	good := g.catalogue.Rules.Policies
	g.catalogue.Rules.Policies = append(slices.Clone(good), policy.Document{Name: "newer", Text: "@id(\"x\")\npermit (principal, action == Action::\"Tomorrow\", resource);\n"})
	g.decide()
	_, err := s.client("platform").AuthorizeLoad(t.Context(), demonstrationLoad())
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(err), "%v", err)
	require.Equal(t, connect.CodeUnavailable, connect.CodeOf(list()))
	eventually(t, "unready", func() bool { return !s.ready() })
	_, body := s.ask("/readyz")
	require.Contains(t, body, "newer:2:")
	require.EqualValues(t, 1, s.metric("catalogue_revision"))
	require.EqualValues(t, 1, s.metric(`alarms_total\{event="RulesUnusable"\}`))

	g.catalogue.Rules.Policies = good
	g.catalogue.Rules.Clients = slices.Clone(g.catalogue.Rules.Clients)
	for i := range g.catalogue.Rules.Clients {
		one := &g.catalogue.Rules.Clients[i]
		one.Suspended = one.Name == "platform"
	}
	g.decide()
	_, err = s.client("platform").AuthorizeLoad(t.Context(), demonstrationLoad())
	require.Equal(t, connect.CodePermissionDenied, connect.CodeOf(err), "%v: at once, by the rules of the newest revision", err)
	eventually(t, "ready again", s.ready)
	require.EqualValues(t, 1, s.metric(`alarms_total\{event="RulesUnusable"\}`))
	require.Zero(t, s.terminate())
	alarms := 0
	for _, e := range g.entries() {
		if e.Event == audit.RulesUnusable {
			alarms++
		}
	}
	require.Equal(t, 1, alarms)
}
