// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
)

// limits: the largest objects the schema allows are also cheap enough for the API server, which stops rules that
// take too many steps.
func (s suite) limits(t *testing.T) {
	t.Run("pool", s.poolLimits)
	t.Run("communities", s.communityLimits)
}

// dryCreate says what the API server would say.
func dryCreate(t *testing.T, client dynamic.Interface, manifest string) error {
	t.Helper()
	u := object(t, manifest)
	_, err := client.Resource(resourceOf(u)).Namespace("default").
		Create(t.Context(), u, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

func (s suite) communityLimits(t *testing.T) {
	const most = 200
	var aliases, values []string
	for i := range most {
		aliases = append(aliases, fmt.Sprintf(`{name: a%0127d, value: "large:4294967295:4294967295:%d"}`, i, i))
	}
	for i := range 250 {
		values = append(values, fmt.Sprintf(`"large:4294967295:4294967295:%d"`, i))
	}
	community := func(of []string) string {
		return "{apiVersion: metallb.io/v1beta1, kind: Community, metadata: {name: limit}, spec: {communities: [" + strings.Join(of, ", ") + "]}}"
	}
	advertisement := func(of []string) string {
		return "{apiVersion: metallb.io/v1beta1, kind: BGPAdvertisement, metadata: {name: limit}, spec: {communities: [" + strings.Join(of, ", ") + "]}}"
	}
	for name, manifest := range map[string]string{"aliases": community(aliases), "communities": advertisement(values)} {
		if err := dryCreate(t, s.client, manifest); err != nil {
			t.Errorf("the most %s: %.600v", name, err)
		}
	}
	aliases[most-1] = `{name: ` + fmt.Sprintf("a%0127d", 0) + `, value: "1:1"}`
	if err := dryCreate(t, s.client, community(aliases)); err == nil || !strings.Contains(err.Error(), "is there more than once") {
		t.Errorf("the first name again at the end: %.600v", err)
	}
}

func (s suite) poolLimits(t *testing.T) {
	// Up to this many ranges are compared with each other (api/internal/crdgen).
	const compared, most = 150, 1000
	prefix := func(i int) string { return fmt.Sprintf("10.%d.%d.0/24", i/250, i%250) }
	v4 := func(i int) string {
		return fmt.Sprintf("%15s - %15s", fmt.Sprintf("100.100.%d.0", i%250), fmt.Sprintf("100.100.%d.255", i%250))
	}
	v6 := func(i int) string {
		return fmt.Sprintf("2001:0db8:aaaa:bbbb:cccc:dddd:%04x:0000 - 2001:0db8:aaaa:bbbb:cccc:dddd:%04x:ffff", i, i)
	}
	v6prefix := func(i int) string { return fmt.Sprintf("2001:0db8:aaaa:bbbb:cccc:dddd:%04x:0001/117", i) }
	last := func(n int, of func(int) string, end string) func(int) string {
		return func(i int) string {
			if i == n-1 {
				return end
			}
			return of(i)
		}
	}

	for _, c := range []struct {
		name  string
		count int
		at    func(int) string
		says  string // empty: accepted
	}{
		{"compared prefixes", compared, prefix, ""},
		{"compared IPv6 ranges", compared, v6, ""},
		{"compared IPv6 prefixes", compared, v6prefix, ""},
		{"compared IPv4 ranges", compared, v4, ""},
		{"an overlap of the first and the last", compared, last(compared, v6, v6prefix(0)), "overlaps with"},
		{"an overlap in IPv4 at the end", compared, last(compared, prefix, "10.0.148.7/32"), `"10.0.148.0/24" overlaps with "10.0.148.7/32"`},
		// Beyond it the controller says so in the status.
		{"more than are compared", compared + 1, last(compared+1, v6, v6(0)), ""},
		{"the most ranges", most, v6, ""},
		{"the most prefixes", most, prefix, ""},
		{"wrong syntax among the most ranges", most, last(most, v6, "wrong"), `"wrong" is neither`},
		{"backwards among the most ranges", most, last(most, v6, "10.0.0.2-10.0.0.1"), `ends before it starts`},
		{"one more", most + 1, prefix, "must have at most 1000 items"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var addresses []string
			for i := range c.count {
				addresses = append(addresses, `"`+c.at(i)+`"`)
			}
			err := dryCreate(t, s.client, fmt.Sprintf("{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: limit}, spec: {addresses: [%s]}}",
				strings.Join(addresses, ", ")))
			switch {
			case c.says == "" && err != nil:
				t.Errorf("rejected: %.600v", err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("want a message with %q, got %.600v", c.says, err)
			}
		})
	}
}
