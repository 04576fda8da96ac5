package rpc

import (
	"context"
	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/signer"
)

func (s *service) ListKeySets(ctx context.Context, _ *v1.ListKeySetsRequest) (*v1.ListKeySetsResponse, error) {
	sets, err := s.signer.ListKeySets(ctx, callerOf(ctx))
	if err != nil {
		return nil, err
	}
	answer := &v1.ListKeySetsResponse{}
	for _, set := range sets {
		answer.KeySets = append(answer.KeySets, writeKeySet(set))
	}
	return answer, nil
}

func writeKeySet(set signer.ListedKeySet) *v1.KeySet {
	m := &v1.KeySet{Name: set.Name, Algorithm: set.Algorithm, CardProfile: set.Profile, TimeZone: set.TimeZone}
	for _, k := range set.Keys {
		m.Keys = append(m.Keys, &v1.KeyVersion{
			Key: writeKey(k.Key), State: k.State.String(), Boundary: writeBoundary(k.Key.Boundary),
			Exposure: k.Exposure.Finding, ExposureDetail: k.Exposure.Detail,
			ActivateAt: writeTime(k.ActivateAt), Due: writeTime(k.Due), Created: writeTime(k.Created), Origin: k.Origin,
		})
	}
	return m
}
