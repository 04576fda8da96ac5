package rpc

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/stretchr/testify/require"

	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/internal/devpki"
)

// The methods under test, by their paths.
const (
	authorizeLoad    = pursekeeperv1connect.SignerServiceAuthorizeLoadProcedure
	confirmLoad      = pursekeeperv1connect.SignerServiceConfirmLoadProcedure
	beginSettlement  = pursekeeperv1connect.SignerServiceBeginSettlementProcedure
	settleLoad       = pursekeeperv1connect.SignerServiceSettleLoadProcedure
	getTransaction   = pursekeeperv1connect.SignerServiceGetTransactionProcedure
	listTransactions = pursekeeperv1connect.SignerServiceListTransactionsProcedure
	unlockCard       = pursekeeperv1connect.KeyServiceUnlockCardProcedure

	authorizeUnload    = pursekeeperv1connect.SignerServiceAuthorizeUnloadProcedure
	confirmUnload      = pursekeeperv1connect.SignerServiceConfirmUnloadProcedure
	authorizeOverdraft = pursekeeperv1connect.SignerServiceAuthorizeOverdraftProcedure
	confirmOverdraft   = pursekeeperv1connect.SignerServiceConfirmOverdraftProcedure

	beginPurchase    = pursekeeperv1connect.ReaderServiceBeginPurchaseProcedure
	completePurchase = pursekeeperv1connect.ReaderServiceCompletePurchaseProcedure
	challenge        = pursekeeperv1connect.ReaderServiceChallengeProcedure
	authenticate     = pursekeeperv1connect.ReaderServiceAuthenticateProcedure
	sealFrame        = pursekeeperv1connect.ReaderServiceSealProcedure
	openFrame        = pursekeeperv1connect.ReaderServiceOpenProcedure
)

// The demonstration load of both suites.
const (
	demoCard    = "3105228000001117"
	demoID      = "demo/" + demoCard + "/EP/LOAD/0007/A1B2C3D4"
	demoMAC1    = "7E1722D0"
	demoMAC1SM4 = "C9A6F09C"
	demoMAC2    = "60B7B5B7"
	demoMAC2SM4 = "1FF2DC09"
	demoTAC     = "5D5364F0"
	demoAnswer  = "000003E8 0007 01 00 A1B2C3D4 "
)

// fields is a JSON object.
type fields map[string]any

// with returns a copy with one field changed, or left out when value is nil.
func (f fields) with(name string, value any) fields {
	c := maps.Clone(f)
	if c[name] = value; value == nil {
		delete(c, name)
	}
	return c
}

func demoLoad() fields {
	return fields{
		"keySet": "demo", "cardSerial": demoCard, "purse": "PURSE_EP", "amountFen": 100, "terminalId": "112233445566",
		"initializeResponse": demoAnswer + demoMAC1, "date": "20240131", "time": "235959",
	}
}

func demoLoadSM4() fields {
	return demoLoad().with("keySet", "demo-sm4").with("initializeResponse", demoAnswer+demoMAC1SM4)
}

// tlsAs is a client's half: the certificate of a role.
func (w *world) tlsAs(role string) *tls.Config {
	return w.tlsWith(w.authority.Client(devpki.Identity(role), time.Now().Add(time.Hour)))
}

func (w *world) tlsWith(certificate, key []byte, err error) *tls.Config {
	require.NoError(w.t, err)
	pair, err := tls.X509KeyPair(certificate, key)
	require.NoError(w.t, err)
	return &tls.Config{RootCAs: w.roots(), Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS13}
}

// caller is a client of the API on one version of HTTP.
type caller struct {
	t    testing.TB
	http *http.Client
	base string
}

func (w *world) as(role string) caller { return w.dial(w.tlsAs(role), true) }

func (w *world) dial(config *tls.Config, http2 bool) caller {
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: http2}
	if !http2 {
		config.NextProtos = []string{"http/1.1"}
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	return caller{w.t, &http.Client{Transport: transport, Timeout: 20 * time.Second}, "https://" + w.public.String()}
}

func (c caller) signer(options ...connect.ClientOption) pursekeeperv1connect.SignerServiceClient {
	return pursekeeperv1connect.NewSignerServiceClient(c.http, c.base, options...)
}

// reply is an answer in JSON with its status line.
type reply struct {
	status int
	proto  string
	body   fields
}

// code and message are what an error says, "" for an answer.
func (r reply) code() string    { return r.text("code") }
func (r reply) message() string { return r.text("message") }

func (r reply) text(name string) string {
	text, _ := r.body[name].(string)
	return text
}

func jsonReader(t testing.TB, body fields) io.Reader {
	encoded, err := json.Marshal(body)
	if err != nil {
		t.Error(err) // perhaps not on the test's goroutine
	}
	return bytes.NewReader(encoded)
}

// post sends a JSON object.
func (c caller) post(method string, body fields) reply {
	c.t.Helper()
	encoded, err := json.Marshal(body)
	require.NoError(c.t, err)
	return c.send(method, "application/json", encoded)
}

// send posts any bytes and reads a JSON answer.
func (c caller) send(method, contentType string, body []byte) reply {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.base+method, bytes.NewReader(body))
	require.NoError(c.t, err)
	request.Header.Set("Content-Type", contentType)
	return c.do(request)
}

func (c caller) do(request *http.Request) reply {
	c.t.Helper()
	response, err := c.http.Do(request)
	require.NoError(c.t, err)
	defer response.Body.Close() //nolint:errcheck // read to its end
	content, err := io.ReadAll(response.Body)
	require.NoError(c.t, err)
	r := reply{status: response.StatusCode, proto: response.Proto, body: fields{}}
	if response.Header.Get("Content-Type") == "application/json" {
		require.NoError(c.t, json.Unmarshal(content, &r.body), "%s", content)
	}
	return r
}

// approved posts a load that must be approved.
func (c caller) approved(body fields) reply {
	c.t.Helper()
	r := c.post(authorizeLoad, body)
	require.Equal(c.t, http.StatusOK, r.status, "%v", r.body)
	require.Equal(c.t, "OUTCOME_APPROVED", r.body["outcome"], "%v", r.body)
	return r
}
