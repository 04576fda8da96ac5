package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/pursekeeper/pursekeeper/audit/tiles"
)

// ErrConflict: the witness signed another tree of this log than this node has.
var ErrConflict = errors.New("the witness signed another tree of this log")

// largestAnswer bounds what is read of an answer.
const largestAnswer = 16 << 10

// errBehind is an answer that names another size than the offer began at.
type errBehind struct{ size uint64 }

func (e *errBehind) Error() string { return fmt.Sprintf("the witness signed %d entries last", e.size) }

// ask offers a checkpoint and returns the signature lines that are by the witness's name and key; they are not verified here. When the witness
// names another size than the one that is known it asks once more, from that.
func (w *one) ask(ctx context.Context, c tiles.Checkpoint, signed string) (lines string, err error) {
	if w.known > c.Size {
		return "", fmt.Errorf("%w: he signed %d entries, the log has %d", ErrConflict, w.known, c.Size)
	}
	lines, err = w.post(ctx, c, signed, w.known)
	var behind *errBehind
	if !errors.As(err, &behind) {
		return lines, err
	}
	switch {
	case behind.size > c.Size:
		return "", fmt.Errorf("%w: he signed %d entries, the log has %d: it was set back, or somebody else signs with its key",
			ErrConflict, behind.size, c.Size)
	case behind.size == w.known && w.known == c.Size:
		return "", fmt.Errorf("%w: of %d entries he knows another root", ErrConflict, w.known)
	case behind.size == w.known:
		return "", fmt.Errorf("the witness answered 409 with the size that was offered from, %d", w.known)
	case behind.size < w.known:
		// He lost what he had. He is offered what goes on from where he says; what he signed before is in cosigned/.
		w.config.Log.Warn("a witness forgot what he signed", "witness", w.Name, "signed", w.known, "says", behind.size)
	}
	lines, err = w.post(ctx, c, signed, behind.size)
	if errors.As(err, &behind) {
		if behind.size == c.Size {
			return "", fmt.Errorf("%w: of %d entries he knows another root", ErrConflict, c.Size)
		}
		err = fmt.Errorf("the witness named two sizes: %w", err)
	}
	return lines, err
}

// post makes one request.
func (w *one) post(ctx context.Context, c tiles.Checkpoint, signed string, old uint64) (lines string, err error) {
	body, err := w.body(c, signed, old)
	if err != nil {
		return "", err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(w.URL, "/")+"/add-checkpoint", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	answer, err := w.HTTP.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close() //nolint:errcheck // it was read
	text, err := io.ReadAll(io.LimitReader(answer.Body, largestAnswer+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > largestAnswer:
		return "", fmt.Errorf("the witness answered more than %d bytes", largestAnswer)
	}
	switch answer.StatusCode {
	case http.StatusOK:
		if lines = w.Key.Line(string(text)); lines == "" {
			err = errors.New("the witness answered no signature by his key")
		}
		return lines, err
	case http.StatusConflict:
		return "", conflict(string(text))
	case http.StatusUnprocessableEntity:
		return "", fmt.Errorf("%w: our %d entries do not begin with the %d that he signed", ErrConflict, c.Size, old)
	case http.StatusNotFound:
		return "", fmt.Errorf("the witness does not know the log %s (404)", c.Origin)
	case http.StatusForbidden:
		return "", fmt.Errorf("the witness knows another key of the log %s (403)", c.Origin)
	}
	return "", fmt.Errorf("the witness answered %s", answer.Status)
}

// body is the request, with the proof that the checkpoint goes on from a size.
func (w *one) body(c tiles.Checkpoint, signed string, old uint64) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "old %d\n", old)
	if old > 0 && old < c.Size {
		proof, err := tlog.ProveTree(int64(c.Size), int64(old), w.config.Folder.HashReader(c))
		if err != nil {
			return "", fmt.Errorf("proof from %d to %d entries: %w", old, c.Size, err)
		}
		for _, hash := range proof {
			fmt.Fprintln(&b, hash)
		}
	}
	return b.String() + "\n" + signed, nil
}

// conflict reads the size that a 409 names.
func conflict(text string) error {
	number, ok := strings.CutSuffix(text, "\n")
	size, err := strconv.ParseUint(number, 10, 62)
	if !ok || err != nil || strconv.FormatUint(size, 10) != number {
		return errors.New("the witness answered 409 without the size that he signed")
	}
	return &errBehind{size}
}

// NoRedirect is for a witness's client: a checkpoint goes where it was configured to go.
func NoRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
