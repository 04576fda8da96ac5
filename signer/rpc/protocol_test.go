package rpc

import (
	"encoding/json"
	"net/http"
	"testing"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
)

// demoMessage is demoLoad as a message.
func demoMessage() *v1.AuthorizeLoadRequest {
	return &v1.AuthorizeLoadRequest{
		KeySet: "demo", CardSerial: demoCard, Purse: v1.Purse_PURSE_EP, AmountFen: 100, TerminalId: "112233445566",
		InitializeResponse: demoAnswer + demoMAC1, Date: "20240131", Time: "235959",
	}
}

// The request and the answer of DESIGN §4, field by field, on both versions of HTTP and in both suites.
func TestTheDocumentedRequestInJSON(t *testing.T) {
	for _, c := range []struct {
		http2 bool
		proto string
	}{{false, "HTTP/1.1"}, {true, "HTTP/2.0"}} {
		t.Run(c.proto, func(t *testing.T) {
			w := newWorld(t)
			platform := w.dial(w.tlsAs("platform"), c.http2)
			r := platform.post(authorizeLoad, demoLoad())
			require.Equal(t, http.StatusOK, r.status, "%v", r.body)
			assert.Equal(t, c.proto, r.proto)
			kcv := r.body["key"].(map[string]any)["kcv"]
			assert.Regexp(t, "^[0-9A-F]{6}$", kcv)
			assert.Equal(t, fields{
				"outcome": "OUTCOME_APPROVED", "mac2": demoMAC2, "command": "805200000B2024013123595960B7B5B704",
				"transactionId": demoID, "boundary": "BOUNDARY_PROCESS", "date": "20240131", "time": "235959",
				"key":        map[string]any{"set": "demo", "kind": "load", "version": 1.0, "kcv": kcv},
				"auditIndex": "1",
			}, r.body)
			sm4 := platform.approved(demoLoadSM4())
			assert.Equal(t, demoMAC2SM4, sm4.body["mac2"])
			assert.Equal(t, "demo-sm4/"+demoCard+"/EP/LOAD/0007/A1B2C3D4", sm4.body["transactionId"])
			assert.Equal(t, "2", sm4.body["auditIndex"])

			confirmed := platform.post(confirmLoad, fields{"transactionId": demoID, "tac": demoTAC})
			assert.Equal(t, "OUTCOME_VERIFIED", confirmed.body["outcome"])
			assert.Equal(t, "tac", confirmed.body["key"].(map[string]any)["kind"])
			got := platform.post(getTransaction, fields{"transactionId": demoID}).body["transaction"].(map[string]any)
			assert.Equal(t, "STATE_VERIFIED", got["state"])
			assert.Equal(t, "EVIDENCE_TAC", got["evidence"])
			assert.Equal(t, "PURSE_EP", got["purse"])
			assert.Equal(t, 1000.0, got["balanceFen"])
		})
	}
}

// gRPC, gRPC-Web and Connect, in binary and in JSON, are one API: the second and later callers get the recorded answer.
func TestProtocolsAgree(t *testing.T) {
	w := newWorld(t)
	var first *v1.AuthorizeLoadResponse
	for name, options := range map[string][]connect.ClientOption{
		"connect": nil, "connect json": {connect.WithProtoJSON()}, "grpc": {connect.WithGRPC()},
		"grpc json": {connect.WithGRPC(), connect.WithProtoJSON()}, "grpc web": {connect.WithGRPCWeb()},
		"grpc gzip": {connect.WithGRPC(), connect.WithSendGzip()},
	} {
		client := w.as("platform").signer(options...)
		answer, err := client.AuthorizeLoad(t.Context(), demoMessage())
		require.NoError(t, err, name)
		assert.Equal(t, v1.Outcome_OUTCOME_APPROVED, answer.Outcome, name)
		assert.Equal(t, demoMAC2, answer.Mac2, name)
		assert.Equal(t, v1.Boundary_BOUNDARY_PROCESS, answer.Boundary, name)
		if first == nil {
			first = answer
		}
		assert.True(t, proto.Equal(first, answer), "%s: %s", name, protojson.Format(answer))

		m := demoMessage()
		m.Date, m.Time = "20240132", "235959"
		_, err = client.AuthorizeLoad(t.Context(), m)
		require.Equal(t, connect.CodeInvalidArgument, connect.CodeOf(err), name)
		assert.ErrorContains(t, err, "date: ", name)
		_, err = client.GetTransaction(t.Context(), &v1.GetTransactionRequest{TransactionId: "demo/0000000000000001/EP/LOAD/0001/00000000"})
		require.Equal(t, connect.CodeNotFound, connect.CodeOf(err), name)
		assert.ErrorContains(t, err, "transactionId: ", name)
	}
	assert.Len(t, w.attempts(), 1)
	assert.Len(t, w.entries(), 2)
}

// What a card may write in several ways is one card, one transaction and one MAC2.
func TestOneCardHoweverItIsWritten(t *testing.T) {
	w := newWorld(t)
	platform := w.as("platform")
	platform.approved(demoLoad())
	for name, body := range map[string]fields{
		"leading zeros":  demoLoad().with("cardSerial", "0000"+demoCard),
		"further digits": demoLoad().with("cardSerial", "FF00"+demoCard),
		"spaces":         demoLoad().with("cardSerial", " 3105 2280 0000 1117 "),
		"no spaces":      demoLoad().with("initializeResponse", "000003E800070100A1B2C3D47E1722D0"),
		"lower case":     demoLoad().with("initializeResponse", "000003e800070100a1b2c3d47e1722d0"),
		"ALG":            demoLoad().with("initializeResponse", "000003E8 0007 01 FF A1B2C3D4 7E1722D0"),
		"spaced date":    demoLoad().with("date", "2024 01 31").with("time", "23 59 59"),
		"no date":        demoLoad().with("date", nil).with("time", nil),
		"null date":      demoLoad().with("date", json.RawMessage("null")).with("time", json.RawMessage("null")),
		"amount as text": demoLoad().with("amountFen", "100"),
		"its own issuer": demoLoad().with("issuerId", testIssuer),
		"enum by number": demoLoad().with("purse", 2),
	} {
		r := platform.approved(body)
		assert.Equal(t, demoMAC2, r.body["mac2"], name)
		assert.Equal(t, demoID, r.body["transactionId"], name)
	}
	assert.Len(t, w.attempts(), 1)
	r := platform.post(confirmLoad, fields{"transactionId": "demo/" + demoCard + "/EP/LOAD/0007/a1b2c3d4", "tac": "5d53 64f0"})
	assert.Equal(t, "OUTCOME_VERIFIED", r.body["outcome"], "%v", r.body)
	assert.Equal(t, demoID, r.body["transactionId"])
}
