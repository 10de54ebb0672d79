// SPDX-License-Identifier: Apache-2.0

package container

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	without := func(gone string) []string {
		var out []string
		for _, c := range defaultCapabilities() {
			if c != gone {
				out = append(out, c)
			}
		}
		return out
	}
	for _, test := range []struct {
		name      string
		add, drop []string
		want      []string
	}{
		{name: "nothing asked for", want: defaultCapabilities()},
		{name: "all dropped", drop: []string{"ALL"}, want: []string{}},
		{name: "one added to none", add: []string{"CAP_NET_RAW"}, drop: []string{"all"}, want: []string{"NET_RAW"}},
		{name: "one dropped", drop: []string{"NET_RAW"}, want: without("NET_RAW")},
		{name: "add wins over drop", add: []string{"NET_RAW"}, drop: []string{"NET_RAW"}, want: defaultCapabilities()},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got, err := Capabilities(test.add, test.drop, false)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got, err := Capabilities([]string{"NET_ROW"}, nil, false); err == nil {
		t.Errorf("a misspelt capability gives %v, want an error", got)
	}
	if got, _ := Capabilities(nil, []string{"ALL"}, true); len(got) != len(capabilityNames()) {
		t.Errorf("privileged: %d capabilities, want all %d", len(got), len(capabilityNames()))
	}
}
