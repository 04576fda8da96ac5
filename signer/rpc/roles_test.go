package rpc

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
	"github.com/pursekeeper/pursekeeper/policy"
)

// methodRow is one method: a request that a permitted role gets no permission_denied for, and the roles that are permitted.
type methodRow struct {
	body    fields
	allowed []policy.Role
}

func methodRows() map[string]methodRow {
	readers := []policy.Role{policy.Platform, policy.Officer, policy.Auditor}
	platform := []policy.Role{policy.Platform}
	officers := []policy.Role{policy.Officer}
	return map[string]methodRow{
		authorizeLoad:    {demoLoad(), platform},
		confirmLoad:      {fields{"transactionId": demoID, "tac": demoTAC}, platform},
		beginSettlement:  {fields{"keySet": "demo", "cardSerial": demoCard, "purse": "PURSE_EP"}, platform},
		settleLoad:       {fields{"settlementId": "demo/" + demoCard + "/EP/SETTLEMENT/0000000000000000", "initializeResponse": demoAnswer + demoMAC1}, platform},
		getTransaction:   {fields{"transactionId": demoID}, readers},
		listTransactions: {fields{"keySet": "demo"}, readers},
		authorizeUnload: {
			fields{"keySet": "demo", "cardSerial": demoCard, "purse": "PURSE_ED", "amountFen": 100, "terminalId": "112233445566", "initializeResponse": demoAnswer + demoMAC1},
			platform,
		},
		confirmUnload: {fields{"transactionId": "demo/" + demoCard + "/ED/UNLOAD/0007/A1B2C3D4", "mac3": "00000000"}, platform},
		authorizeOverdraft: {
			fields{"keySet": "demo", "cardSerial": demoCard, "newLimitFen": 100, "terminalId": "112233445566", "initializeResponse": "000003E8 0007 000000 01 00 A1B2C3D4 7E1722D0"},
			platform,
		},
		confirmOverdraft: {fields{"transactionId": "demo/" + demoCard + "/ED/OVERDRAFT/0007/A1B2C3D4", "tac": "00000000"}, platform},
		verifyTac:        {demoTACRequest(), platform},
		verifyTacs:       {fields{"items": []fields{demoTACRequest()}}, platform},
		signCommand:      {blockRequest().with("keySet", "demo"), platform},
		authenticateCard: {externalRequest().with("keySet", "demo"), platform},
		replay:           {fields{}, []policy.Role{policy.Auditor}},
		listKeySets:      {fields{}, []policy.Role{policy.Officer, policy.Auditor}},
		proposeChange:    {fields{"draft": "{}"}, officers},
		approveChange:    {fields{"id": demoChangeID, "signature": "none"}, officers},
		rejectChange:     {fields{"id": demoChangeID, "reason": "no"}, officers},
		cancelChange:     {fields{"id": demoChangeID}, officers},
		listChanges:      {fields{}, append(officers, policy.Auditor)},
		readChange:       {fields{"id": demoChangeID}, append(officers, policy.Auditor)},
		listOfficers:     {fields{}, append(officers, policy.Auditor)},
		personaliseCard:  {fields{"keySet": "demo", "cardSerial": demoCard}, []policy.Role{policy.Personaliser}},
		personalisePSAM:  {fields{"keySet": "demo", "deviceNumber": demoDevice}, []policy.Role{policy.Personaliser}},
		unlockCard:       {fields{"keySet": "demo", "cardSerial": demoCard, "reason": "found"}, []policy.Role{policy.Officer}},
		beginPurchase:    {demoPurchase(), []policy.Role{policy.Reader}},
		completePurchase: {fields{"purchaseId": demoPurchaseID, "mac2": demoTAC}, []policy.Role{policy.Reader}},
		challenge:        {fields{"keySet": "demo", "deviceNumber": demoDevice}, []policy.Role{policy.Reader}},
		authenticate:     {fields{"sessionId": demoSessionID, "deviceChallenge": demoDevice, "deviceProof": demoDevice}, []policy.Role{policy.Reader}},
		sealFrame:        {fields{"sessionId": demoSessionID, "data": "00"}, []policy.Role{policy.Reader}},
		openFrame:        {fields{"sessionId": demoSessionID, "frame": demoFrame}, []policy.Role{policy.Reader}},
		listEntries:      {fields{}, []policy.Role{policy.Auditor}},
		readEntry:        {fields{}, []policy.Role{policy.Auditor}},
		proveEntry:       {fields{}, []policy.Role{policy.Auditor}},
		latestCheckpoint: {fields{}, []policy.Role{policy.Auditor}},
	}
}

// Every method that the descriptors have, with every role. A method without a row fails here, and one whose handler nobody
// mounted fails as well.
func TestEveryMethodAndRole(t *testing.T) {
	rows := methodRows()
	var paths []string
	protoregistry.GlobalFiles.RangeFilesByPackage("pursekeeper.v1", func(file protoreflect.FileDescriptor) bool {
		paths = slices.AppendSeq(paths, maps.Keys(methods(file)))
		return true
	})
	// A stream has no right of its own: each of its requests has its method's (TestAStreamGivesNoRight).
	paths = slices.DeleteFunc(paths, func(p string) bool { return p == pursekeeperv1connect.SignerServiceTransactProcedure })
	require.Len(t, paths, len(policy.Operations()))
	for _, path := range paths {
		require.Contains(t, policy.Operations(), policy.Operation(path[strings.LastIndexByte(path, '/')+1:]), "policies name the method as the API does")
	}
	// An answer that is a stream is asked for by gRPC: TestExportsAreForAuditors.
	paths = slices.DeleteFunc(paths, func(p string) bool { return p == pursekeeperv1connect.AuditServiceExportEntriesProcedure })
	require.ElementsMatch(t, paths, slices.Collect(maps.Keys(rows)))

	w := newWorld(t)
	w.as("platform").approved(demoLoad())
	attempts := w.attempts()
	for path, row := range rows {
		for _, role := range policy.Roles() {
			caller := w.as(string(role))
			before := len(w.entries())
			r := caller.post(path, row.body)
			what := string(role) + " " + path
			require.NotContains(t, []int{404, 415, 500}, statusOfUnserved(r), what)
			if slices.Contains(row.allowed, role) {
				assert.NotEqual(t, "permission_denied", r.code(), what)
				continue
			}
			assert.Equal(t, "permission_denied", r.code(), what)
			assert.Contains(t, r.message(), "role "+string(role)+" may not ", what)
			denied := w.entries()[before:]
			require.Len(t, denied, 1, what)
			assert.Equal(t, "PERMISSION_DENIED", denied[0].Outcome, what)
			assert.Equal(t, role, denied[0].Role, what)
			assert.Equal(t, string(role), denied[0].Client, what)
			if !ofNoKeySet(path) {
				assert.Equal(t, "demo", denied[0].KeySet, what)
			}
			assert.NotEmpty(t, denied[0].Policy, what)
		}
	}
	assert.Len(t, w.attempts(), len(attempts))
}

// The table of cases that is shipped says what this API does: each of its cells is the row's of TestEveryMethodAndRole, which asks the API itself.
func TestTheShippedTableIsOfTheAPI(t *testing.T) {
	allowed := map[string][]policy.Role{"ExportEntries": {policy.Auditor}} // TestExportsAreForAuditors
	for path, row := range methodRows() {
		allowed[path[strings.LastIndexByte(path, '/')+1:]] = row.allowed
	}
	seen := map[string]bool{}
	cell := regexp.MustCompile(`(\w+): +(allow|deny)`)
	for line := range strings.Lines(policy.ShippedCases()) {
		row, cells, found := strings.Cut(line, ": ")
		cells = strings.TrimSpace(cells)
		if !found || !strings.HasPrefix(line, "    ") || !strings.HasPrefix(cells, "{") {
			continue
		}
		operation, _, _ := strings.Cut(strings.TrimSpace(row), " ")
		require.Contains(t, allowed, operation)
		seen[operation] = true
		roles := cell.FindAllStringSubmatch(cells, -1)
		require.Len(t, roles, len(policy.Roles()), line)
		for _, one := range roles {
			assert.Equal(t, slices.Contains(allowed[operation], policy.Role(one[1])), one[2] == "allow", "%s of %s", row, one[1])
		}
	}
	assert.Len(t, seen, len(allowed))
}

// ofNoKeySet reports whether the request of a method's row names none, and is about all that the caller may see, or about none.
func ofNoKeySet(path string) bool {
	return slices.Contains([]string{listKeySets, replay, listEntries, readEntry, proveEntry, latestCheckpoint}, path) ||
		!policy.Operation(path[strings.LastIndexByte(path, '/')+1:]).OfKeySet()
}

// statusOfUnserved is the HTTP status of an answer that no handler gave, 0 of one that a handler gave.
func statusOfUnserved(r reply) int {
	if len(r.body) > 0 || r.status == 200 {
		return 0
	}
	return r.status
}

// The right role is not enough either: the key set must be among the client's.
func TestForeignKeySet(t *testing.T) {
	w := newWorld(t)
	for path, row := range methodRows() {
		if ofNoKeySet(path) {
			continue // TestKeySetsOfACaller, TestEntriesOfForeignKeySets, and TestKeysOfAReplay of package signer
		}
		body := row.body
		switch {
		case body["keySet"] != nil:
			body = body.with("keySet", "foreign")
		case body["items"] != nil:
			body = fields{"items": []fields{demoTACRequest().with("keySet", "foreign")}}
		case body["settlementId"] != nil:
			body = body.with("settlementId", "foreign/"+demoCard+"/EP/SETTLEMENT/0000000000000000")
		case body["purchaseId"] != nil:
			body = body.with("purchaseId", "foreign"+demoPurchaseID[len("demo"):])
		case body["sessionId"] != nil:
			body = body.with("sessionId", "foreign"+demoSessionID[len("demo"):])
		default:
			body = body.with("transactionId", "foreign"+demoID[len("demo"):])
		}
		before := len(w.entries())
		r := w.as(string(row.allowed[0])).post(path, body)
		assert.Equal(t, "permission_denied", r.code(), "%s: %v", path, r.body)
		assert.Contains(t, r.message(), `::"foreign`, path)
		denied := w.entries()[before:]
		require.Len(t, denied, 1, path)
		assert.Equal(t, "PERMISSION_DENIED", denied[0].Outcome, path)
		assert.Equal(t, "foreign", denied[0].KeySet, path)
	}
	assert.Empty(t, w.attempts())
}
