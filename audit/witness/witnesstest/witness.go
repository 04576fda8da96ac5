// Package witnesstest is a witness for tests: a real one, over TLS, that keeps what it signed and verifies every proof, after C2SP
// tlog-witness and tlog-cosignature. Its key is made anew for each test.
package witnesstest

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// Witness is a running witness of some logs.
type Witness struct {
	*httptest.Server
	name    string
	private ed25519.PrivateKey

	mu     sync.Mutex // guards all below
	logs   map[string]note.Verifier
	latest map[string]tree
	offers int
	refuse int
}

// tree is what a witness signed last of a log.
type tree struct {
	checkpoint tiles.Checkpoint
	signed     string // with the log's signature and the witness's
}

// Start starts a witness that ends with the test.
func Start(t testing.TB, name string) *Witness {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &Witness{name: name, private: private, logs: map[string]note.Verifier{}, latest: map[string]tree{}}
	w.Server = httptest.NewTLSServer(http.HandlerFunc(w.serve))
	t.Cleanup(w.Close)
	return w
}

func (w *Witness) public() ed25519.PublicKey { return w.private.Public().(ed25519.PublicKey) }

// VerifierKey is the witness's key as an operator writes it.
func (w *Witness) VerifierKey() string {
	return fmt.Sprintf("%s+%08x+%s", w.name, tiles.WitnessHash(w.name, w.public()), base64.StdEncoding.EncodeToString(append([]byte{4}, w.public()...)))
}

// Know makes the witness sign a log.
func (w *Witness) Know(key note.Verifier) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logs[key.Name()] = key
}

// Latest is the checkpoint of a log that the witness signed last, with both signatures; "" before.
func (w *Witness) Latest(origin string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.latest[origin].signed
}

// Forget makes the witness lose what it signed.
func (w *Witness) Forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.latest = map[string]tree{}
}

// Refuse makes the witness answer a status from now on; 0 is the witness as it should be.
func (w *Witness) Refuse(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse = status
}

// Offers is how many requests came.
func (w *Witness) Offers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.offers
}

func (w *Witness) serve(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Method != http.MethodPost || r.URL.Path != "/add-checkpoint" {
		http.Error(out, "expected POST /add-checkpoint", http.StatusBadRequest)
		return
	}
	w.mu.Lock() // until the answer: comparing and keeping are one step
	defer w.mu.Unlock()
	w.offers++
	if w.refuse != 0 {
		http.Error(out, "refused by the test", w.refuse)
		return
	}
	status, text := w.add(string(body))
	if status == http.StatusConflict {
		out.Header().Set("Content-Type", "text/x.tlog.size")
	}
	out.WriteHeader(status)
	_, _ = io.WriteString(out, text)
}

// add judges a request.
func (w *Witness) add(body string) (status int, text string) {
	head, signed, found := strings.Cut(body, "\n\n")
	lines := strings.Split(head, "\n")
	number, isOld := strings.CutPrefix(lines[0], "old ")
	old, err := strconv.ParseUint(number, 10, 62)
	if !found || !isOld || err != nil || len(lines) > 64 {
		return http.StatusBadRequest, "malformed\n"
	}
	var proof tlog.TreeProof
	for _, line := range lines[1:] {
		hash, err := tlog.ParseHash(line)
		if err != nil {
			return http.StatusBadRequest, "malformed\n"
		}
		proof = append(proof, hash)
	}
	origin, _, _ := strings.Cut(signed, "\n")
	key := w.logs[origin]
	if key == nil {
		return http.StatusNotFound, "unknown log\n"
	}
	c, err := tiles.OpenCheckpoint([]byte(signed), key)
	if err != nil {
		return http.StatusForbidden, "not signed by the log's key\n"
	}
	return w.judge(old, proof, c, signed)
}

func (w *Witness) judge(old uint64, proof tlog.TreeProof, c tiles.Checkpoint, signed string) (status int, text string) {
	latest := w.latest[c.Origin].checkpoint
	switch {
	case old > c.Size:
		return http.StatusBadRequest, "old is larger than the checkpoint\n"
	case old != latest.Size, old == c.Size && old > 0 && latest.Root != c.Root:
		return http.StatusConflict, fmt.Sprintf("%d\n", latest.Size)
	case old == 0 && len(proof) > 0:
		return http.StatusUnprocessableEntity, "a proof from nothing\n"
	case old > 0 && old < c.Size:
		if err := tlog.CheckTree(proof, int64(c.Size), c.Root, int64(old), latest.Root); err != nil {
			return http.StatusUnprocessableEntity, "the proof does not hold\n"
		}
	}
	line := w.cosign(c)
	w.latest[c.Origin] = tree{c, signed + line}
	return http.StatusOK, line
}

// cosign makes the signature line of a checkpoint, dated now.
func (w *Witness) cosign(c tiles.Checkpoint) string {
	at := uint64(time.Now().Unix())
	raw := binary.BigEndian.AppendUint32(nil, tiles.WitnessHash(w.name, w.public()))
	raw = binary.BigEndian.AppendUint64(raw, at)
	raw = append(raw, ed25519.Sign(w.private, tiles.CosignedMessage([]byte(c.Text()), at))...)
	return fmt.Sprintf("— %s %s\n", w.name, base64.StdEncoding.EncodeToString(raw))
}
