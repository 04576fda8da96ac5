package signer

import (
	"context"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/crypto/suite"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/signer/ledger"
)

// A purchase is its client's: another reader, with the right MAC2 or with wrong ones, is denied and spoils nothing.
func TestAPurchaseIsItsClients(t *testing.T) {
	l := newTill(t, suite.TDES, "pboc-ep")
	b := l.approved(l.ask(purse.TTIPurchaseEP))
	answer := l.pay(purse.TTIPurchaseEP, b)
	mac2 := upperHex(answer.MAC2[:])
	l.reopenAs("spiffe://pursekeeper.test/other-reader")
	for _, shown := range []string{mac2, "00000000"} {
		_, err := l.CompletePurchase(context.Background(), l.caller, b.PurchaseID, shown, "")
		var denied *policy.Denied
		require.ErrorAs(t, err, &denied)
		assert.Contains(t, denied.Reason, "other-reader did not begin this purchase")
	}
	entries := l.entries(t)
	assert.Equal(t, "PERMISSION_DENIED", entries[len(entries)-1].Outcome)
	l.reopenAs("spiffe://pursekeeper.test/reader")
	assert.Equal(t, ledger.Verified, l.complete(b.PurchaseID, mac2, "").Outcome)
}
