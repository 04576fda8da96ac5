package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"connectrpc.com/connect"

	v1 "github.com/pursekeeper/pursekeeper/api/pursekeeper/v1"
	"github.com/pursekeeper/pursekeeper/api/pursekeeper/v1/pursekeeperv1connect"
)

// keyListCmd lists keys.
type keyListCmd struct {
	clientFlags `set:"as=officer"`
	Set         string `help:"Only this key set."`
}

// Run asks KeyService.ListKeySets.
func (c *keyListCmd) Run(ctx context.Context) error {
	sets, err := listKeySets(ctx, c.clientFlags, c.Set)
	if err != nil {
		return err
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "KEY\tSTATE\tBOUNDARY\tCHECK VALUE\tORIGIN\tCREATED\tACTIVE FROM\tDUE\tEXPOSURE")
	for _, set := range sets {
		for _, k := range set.Keys {
			writeKeyLine(out, k)
		}
	}
	return out.Flush()
}

func writeKeyLine(out io.Writer, k *v1.KeyVersion) {
	boundary := strings.TrimPrefix(k.Boundary.String(), "BOUNDARY_")
	fmt.Fprintln(out, strings.Join([]string{
		keyName(k.Key), k.State, boundary, k.Key.Kcv, orDash(k.Origin), orDash(k.Created), orDash(k.ActivateAt), orDash(k.Due), orDash(k.Exposure),
	}, "\t"))
}

func keyName(k *v1.Key) string { return fmt.Sprintf("%s/%s/%d", k.Set, k.Kind, k.Version) }

func orDash(text string) string { return cmp.Or(text, "-") }

// listKeySets asks for the key sets that the caller may see, or for one of them.
func listKeySets(ctx context.Context, flags clientFlags, only string) ([]*v1.KeySet, error) {
	client, err := flags.http()
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	keys := pursekeeperv1connect.NewKeyServiceClient(client, flags.Server, connect.WithGRPC())
	answer, err := keys.ListKeySets(ctx, &v1.ListKeySetsRequest{})
	if err != nil {
		return nil, err
	}
	if only == "" {
		return answer.KeySets, nil
	}
	sets := slices.DeleteFunc(answer.KeySets, func(s *v1.KeySet) bool { return s.Name != only })
	if len(sets) == 0 {
		return nil, fmt.Errorf("there is no key set %q that %s may see", only, flags.As)
	}
	return sets, nil
}

// keyDueCmd lists what cryptoperiods demand.
type keyDueCmd struct {
	clientFlags `set:"as=officer"`
	Set         string        `help:"Only this key set."`
	Within      time.Duration `help:"Also keys whose cryptoperiod ends within this time." default:"720h"`
}

// Run lists the keys that sign, or will, and whose cryptoperiod has ended or soon does, with what is to be done.
func (c *keyDueCmd) Run(ctx context.Context) error {
	sets, err := listKeySets(ctx, c.clientFlags, c.Set)
	if err != nil {
		return err
	}
	due, err := dueKeys(sets, time.Now(), c.Within)
	if err != nil {
		return err
	}
	if len(due) == 0 {
		fmt.Printf("no key is due within %v\n", c.Within)
		return nil
	}
	out := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "KEY\tSTATE\tDUE\tWHAT TO DO")
	for _, d := range due {
		fmt.Fprintf(out, "%s\t%s\t%s\t%s\n", keyName(d.key.Key), d.key.State, d.key.Due, d.demand)
	}
	return out.Flush()
}

// dueKey is a key and what its cryptoperiod demands.
type dueKey struct {
	key    *v1.KeyVersion
	at     time.Time
	demand string
}

// dueKeys are the keys in use whose cryptoperiod ends before now and within, the first to end first. One that has a successor is to be
// deactivated; one that has none is to be rotated before.
func dueKeys(sets []*v1.KeySet, now time.Time, within time.Duration) (due []dueKey, err error) {
	for _, set := range sets {
		for _, k := range set.Keys {
			if k.Due == "" || !slices.Contains([]string{"pre-active", "active", "suspended"}, k.State) {
				continue
			}
			at, err := time.Parse(time.RFC3339, k.Due)
			if err != nil {
				return nil, fmt.Errorf("key %s: due: %w", keyName(k.Key), err)
			}
			if at.After(now.Add(within)) {
				continue
			}
			due = append(due, dueKey{k, at, demandOf(set, k, !at.After(now))})
		}
	}
	slices.SortStableFunc(due, func(a, b dueKey) int { return a.at.Compare(b.at) })
	return due, nil
}

func demandOf(set *v1.KeySet, k *v1.KeyVersion, over bool) string {
	succeeded := slices.ContainsFunc(set.Keys, func(o *v1.KeyVersion) bool {
		return o.Key.Kind == k.Key.Kind && o.Key.Version > k.Key.Version && (o.State == "active" || o.State == "pre-active")
	})
	switch {
	case !succeeded:
		return fmt.Sprintf("pursekeeper key rotate --set %s --kinds %s", k.Key.Set, k.Key.Kind)
	case over:
		return fmt.Sprintf("pursekeeper key deactivate --set %s --keys %s/%d", k.Key.Set, k.Key.Kind, k.Key.Version)
	}
	return "its successor is there: deactivate it when it is due"
}
