package rpc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/custody"
	"github.com/pursekeeper/pursekeeper/policy"
	"github.com/pursekeeper/pursekeeper/purse"
	"github.com/pursekeeper/pursekeeper/store"
)

// Page sizes of ListChanges.
const (
	changesPage        = 100
	largestChangesPage = 1000
	// changesPageBytes ends a page, after at least one change: a page is smaller than what gRPC clients take by default, 4 MiB.
	changesPageBytes = 1 << 20
)

func (s *service) ProposeChange(ctx context.Context, m *v1.ProposeChangeRequest) (*v1.ChangeResponse, error) {
	proposal := custody.Proposal{}
	var unreadable error
	if m.Life != "" {
		life, err := time.ParseDuration(m.Life)
		if err != nil || life <= 0 {
			unreadable = &purse.FieldError{Field: "life", Problem: "is not a duration, such as 24h"}
		}
		proposal.Life = life
	}
	var err error
	if proposal.Change, err = custody.DecodeDraft([]byte(m.Draft)); err != nil && unreadable == nil {
		unreadable = &purse.FieldError{Field: "draft", Problem: err.Error()}
	}
	if unreadable != nil { // after the permission, which is what a caller learns first
		proposal = custody.Proposal{}
	}
	r, err := s.signer.ProposeChange(ctx, callerOf(ctx), proposal)
	if unreadable != nil && errors.Is(err, custody.ErrMalformed) {
		return nil, unreadable
	}
	return s.changed(ctx, r, err)
}

func (s *service) ApproveChange(ctx context.Context, m *v1.ApproveChangeRequest) (*v1.ChangeResponse, error) {
	r, err := s.signer.ApproveChange(ctx, callerOf(ctx), m.Id, []byte(m.Signature))
	return s.changed(ctx, r, err)
}

func (s *service) RejectChange(ctx context.Context, m *v1.RejectChangeRequest) (*v1.ChangeResponse, error) {
	r, err := s.signer.RejectChange(ctx, callerOf(ctx), m.Id, m.Reason)
	return s.changed(ctx, r, err)
}

func (s *service) CancelChange(ctx context.Context, m *v1.CancelChangeRequest) (*v1.ChangeResponse, error) {
	r, err := s.signer.CancelChange(ctx, callerOf(ctx), m.Id)
	return s.changed(ctx, r, err)
}

func (s *service) ReadChange(ctx context.Context, m *v1.ReadChangeRequest) (*v1.ChangeResponse, error) {
	r, err := s.signer.Change(ctx, callerOf(ctx), m.Id)
	return s.changed(ctx, r, err)
}

// changed is the answer about one change: a refusal by the rules of custody is a normal one (DESIGN, §4).
func (s *service) changed(ctx context.Context, r store.ChangeRequest, err error) (*v1.ChangeResponse, error) {
	answer := &v1.ChangeResponse{}
	if err != nil {
		if answer.Refused = custody.Reason(err); answer.Refused == "" {
			return nil, err
		}
		answer.Detail = err.Error()
	}
	if r.ID == "" {
		return answer, nil
	}
	answer.Change, err = s.writeChange(ctx, r)
	return answer, err
}

func (s *service) ListChanges(ctx context.Context, m *v1.ListChangesRequest) (*v1.ListChangesResponse, error) {
	filter := store.RequestFilter{OpenOnly: m.OpenOnly, Limit: changesPage}
	var malformed error
	switch {
	case m.PageSize > largestChangesPage:
		malformed = &purse.FieldError{Field: "pageSize", Problem: fmt.Sprintf("is %d, expected 1 to %d", m.PageSize, largestChangesPage)}
	case m.PageSize > 0:
		filter.Limit = int(m.PageSize)
	}
	if m.PageToken != "" {
		after, err := strconv.ParseUint(m.PageToken, 10, 63)
		if err != nil {
			malformed = &purse.FieldError{Field: "pageToken", Problem: "is not one that this service gave"}
		}
		filter.After = after
	}
	size := filter.Limit
	filter.Limit++ // one more tells whether there is a next page
	all, err := s.signer.Changes(ctx, callerOf(ctx), filter)
	if err != nil {
		return nil, err
	}
	if malformed != nil {
		return nil, malformed
	}
	answer := &v1.ListChangesResponse{}
	if len(all) > size {
		all = all[:size]
		answer.NextPageToken = strconv.FormatUint(all[size-1].AuditIndex, 10)
	}
	written := 0
	for i, r := range all {
		m, err := s.writeChange(ctx, r)
		if err != nil {
			return nil, err
		}
		answer.Changes = append(answer.Changes, m)
		if written += proto.Size(m); written > changesPageBytes && i < len(all)-1 {
			answer.NextPageToken = strconv.FormatUint(r.AuditIndex, 10)
			break
		}
	}
	return answer, nil
}

func (s *service) ListOfficers(ctx context.Context, _ *v1.ListOfficersRequest) (*v1.ListOfficersResponse, error) {
	c, err := s.signer.Officers(ctx, callerOf(ctx))
	if err != nil {
		return nil, err
	}
	answer := &v1.ListOfficersResponse{Revision: c.Revision, Quorum: uint32(max(c.Quorum.Default, 0))}
	answer.Rules = writeRules(c.Rules)
	for _, act := range slices.Sorted(maps.Keys(c.Quorum.Acts)) {
		answer.Acts = append(answer.Acts, &v1.ActQuorum{Act: string(act), Quorum: uint32(max(c.Quorum.Acts[act], 0))})
	}
	for _, o := range c.Officers {
		answer.Officers = append(answer.Officers, &v1.RegisteredOfficer{
			Name: o.Name, Key: o.Key, Fingerprint: o.Fingerprint(), Recipient: o.Recipient, Since: o.Since.UTC().Format(time.RFC3339),
		})
	}
	return answer, nil
}

func writeRules(rules policy.Rules) *v1.Rules {
	m := &v1.Rules{Digest: rules.Digest()}
	for _, c := range rules.Clients {
		m.Clients = append(m.Clients, &v1.RuleClient{
			Name: c.Name, Identity: c.Identity, Role: string(c.Role), KeySets: c.KeySets, Suspended: c.Suspended,
		})
	}
	for _, d := range rules.Policies {
		m.Policies = append(m.Policies, &v1.RuleDocument{Name: d.Name, Text: d.Text})
	}
	if rules.Limits != nil {
		m.Limits = &v1.RuleDocument{Name: rules.Limits.Name, Text: rules.Limits.Text}
	}
	return m
}

func (s *service) writeChange(ctx context.Context, r store.ChangeRequest) (*v1.Change, error) {
	change, err := custody.DecodeChange(r.Body)
	if err != nil {
		return nil, err
	}
	needed, err := s.signer.ApprovalsNeeded(ctx, r)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(r.Body)
	m := &v1.Change{
		Id: r.ID, Act: r.Act, Author: r.Author, State: string(r.State), ExpiresAt: r.ExpiresAt.UTC().Format(time.RFC3339), Bytes: string(r.Body),
		Words: change.Words(), Digest: hex.EncodeToString(sum[:]), ApprovalsNeeded: uint32(needed), Detail: r.Detail, Executor: r.Executor,
		AuditIndex: r.AuditIndex, EndedAuditIndex: r.Ended,
	}
	for _, a := range r.Approvals {
		m.Approvals = append(m.Approvals, &v1.Approval{
			Officer: a.Officer, Key: a.Key, Signature: a.Signature, ApprovedAt: a.At.UTC().Format(time.RFC3339),
		})
	}
	return m, nil
}
