// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
)

func plainSerializer() runtime.NegotiatedSerializer {
	return serializer.NewCodecFactory(runtime.NewScheme()).WithoutConversion()
}

// columns: what kubectl get prints. Columns after "|" are printed with -o wide only.
func (s suite) columns(t *testing.T) {
	plain, err := rest.UnversionedRESTClientFor(withDefaults(s.config))
	if err != nil {
		t.Fatal(err)
	}
	const valid = `conditions: [{type: Valid, status: "True", reason: Valid, message: used, lastTransitionTime: "2026-01-02T03:04:05Z"}]`
	const invalid = `conditions: [{type: Valid, status: "False", reason: Overlap, message: in words, lastTransitionTime: "2026-01-02T03:04:05Z"}]`
	for _, c := range []struct {
		manifest, status string
		header, row      string
	}{
		{
			`{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: p}, spec: {addresses: [192.0.2.0/28, "2001:db8::/124"]}}`,
			`{usedIPv4: 3/16, usedIPv6: 1/16, reservedIPv4: 2, ` + valid + `}`,
			"Name, Auto Assign, Avoid Buggy IPs, Addresses, Used IPv4, Used IPv6, Valid, Reason | Message, Reserved IPv4, Reserved IPv6",
			`p, true, false, ["192.0.2.0/28","2001:db8::/124"], 3/16, 1/16, True, Valid | used, 2, <nil>`,
		},
		{
			`{apiVersion: heraldlb.io/v1alpha1, kind: IPReservation, metadata: {name: webs}, spec: {pool: main, ipv4: 2, services: [web]}}`,
			`{held: 2/2, inUse: 1, addressList: 192.0.2.1 192.0.2.2, ` + valid + `}`,
			"Name, Held, In Use, Addresses, Valid, Reason, Age | Pool, Message",
			"webs, 2/2, 1, 192.0.2.1 192.0.2.2, True, Valid, * | main, used",
		},
		{
			`{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: l}, spec: {ipAddressPools: [a], interfaces: [eth0], ipAddressPoolSelectors: [{matchLabels: {a: b}}]}}`,
			`{` + invalid + `}`,
			"Name, IPAddressPools, IPAddressPool Selectors, Interfaces, Valid, Reason | Node Selectors, Message",
			`l, ["a"], [{"matchLabels":{"a":"b"}}], ["eth0"], False, Overlap | <nil>, in words`,
		},
		{
			`{apiVersion: metallb.io/v1beta1, kind: BGPAdvertisement, metadata: {name: b}, spec: {peers: [x], nodeSelectors: [{}]}}`,
			`{` + valid + `}`,
			"Name, IPAddressPools, IPAddressPool Selectors, Peers, Valid, Reason | Node Selectors, Message",
			`b, <nil>, <nil>, ["x"], True, Valid | [{}], used`,
		},
		{
			`{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {name: r}, spec: {myASN: 64512, peerASN: 4200000000, peerAddress: 192.0.2.1, bfdProfile: fast, ebgpMultiHop: true}}`,
			`{` + valid + `}`,
			"Name, Address, ASN, BFD Profile, Multi Hops, Valid, Reason | Message",
			"r, 192.0.2.1, 4200000000, fast, true, True, Valid | used",
		},
		{
			`{apiVersion: metallb.io/v1beta1, kind: BGPPeer, metadata: {name: r1}, spec: {myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1}}`,
			`{` + valid + `}`,
			"Name, Address, ASN, BFD Profile, Multi Hops, Valid, Reason | Message",
			"r1, 192.0.2.1, 64513, <nil>, <nil>, True, Valid | used",
		},
		{
			`{apiVersion: metallb.io/v1beta1, kind: BFDProfile, metadata: {name: f}, spec: {passiveMode: true}}`,
			`{` + valid + `}`,
			"Name, Passive Mode, Transmit Interval, Receive Interval, Multiplier, Valid, Reason | Message",
			"f, true, 300, 300, 3, True, Valid | used",
		},
		{
			`{apiVersion: metallb.io/v1beta1, kind: Community, metadata: {name: c}, spec: {communities: [{name: one, value: "1:1"}]}}`,
			`{` + invalid + `}`,
			"Name, Communities, Valid, Reason | Message",
			"c, one, False, Overlap | in words",
		},
		{
			`{apiVersion: metallb.io/v1beta1, kind: ServiceL2Status, metadata: {name: l2}}`,
			`{node: n1, serviceName: s, serviceNamespace: ns}`,
			"Name, Allocated Node, Service Name, Service Namespace",
			"l2, n1, s, ns",
		},
		{
			`{apiVersion: metallb.io/v1beta1, kind: ServiceBGPStatus, metadata: {name: bgp}}`,
			`{node: n1, serviceName: s, serviceNamespace: ns, peers: [a]}`,
			"Name, Node, Service Name, Service Namespace | Peers",
			`bgp, n1, s, ns | ["a"]`,
		},
		{
			`{apiVersion: metallb.io/v1beta1, kind: ConfigurationState, metadata: {name: controller}}`,
			`{result: Invalid, errorSummary: in words, ` + valid + `}`,
			"Name, Result, ErrorSummary, Connected, Age",
			"controller, Invalid, in words, <nil>, *",
		},
		{
			`{apiVersion: metallb.io/v1beta1, kind: ConfigurationState, metadata: {name: speaker-n1}}`,
			`{result: Valid, conditions: [{type: heraldlb.io/Connected, status: "False", reason: CutOff, message: in words, lastTransitionTime: "2026-01-02T03:04:05Z"}]}`,
			"Name, Result, ErrorSummary, Connected, Age",
			"speaker-n1, Valid, <nil>, False, *",
		},
		{
			`{apiVersion: heraldlb.io/v1alpha1, kind: BGPSession, metadata: {name: n1-r}}`,
			`{node: n1, peer: r, peerAddress: 192.0.2.1, state: Established, since: "2026-01-02T03:04:05Z", prefixesSent: 12, bfdState: Up, lastError: in words}`,
			"Name, Node, Peer, State, Since, Prefixes, BFD | Address, Last Error",
			"n1-r, n1, r, Established, *, 12, Up | 192.0.2.1, in words",
		},
	} {
		u := object(t, c.manifest)
		t.Run(u.GetKind()+" "+u.GroupVersionKind().Version, func(t *testing.T) {
			objects, created := create(t, s.client, c.manifest)
			created.Object["status"] = object(t, "status: "+c.status).Object["status"]
			if _, err := objects.UpdateStatus(t.Context(), created, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			gvr := resourceOf(u)
			body, err := plain.Get().AbsPath("/apis", gvr.Group, gvr.Version, "namespaces", "default", gvr.Resource, u.GetName()).
				SetHeader("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io").Do(t.Context()).Raw()
			if err != nil {
				t.Fatal(err)
			}
			var table metav1.Table
			if err := json.Unmarshal(body, &table); err != nil {
				t.Fatal(err)
			}
			header, row := printed(t, table, c.row)
			if diff := cmp.Diff(c.header, header); diff != "" {
				t.Errorf("header (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.row, row); diff != "" {
				t.Errorf("row (-want +got):\n%s", diff)
			}
		})
	}
}

// printed joins a table of one row in the notation of testColumns. A cell that want has as "*" only must not be empty.
func printed(t *testing.T, table metav1.Table, want string) (header, row string) {
	t.Helper()
	if len(table.Rows) != 1 {
		t.Fatalf("%d rows", len(table.Rows))
	}
	wanted := strings.FieldsFunc(want, func(r rune) bool { return r == ',' || r == '|' })
	var h, r strings.Builder
	wide := false
	for i, c := range table.ColumnDefinitions {
		sep := ", "
		switch {
		case i == 0:
			sep = ""
		case c.Priority > 0 && !wide:
			sep, wide = " | ", true
		}
		cell := fmt.Sprint(table.Rows[0].Cells[i])
		if number, ok := table.Rows[0].Cells[i].(float64); ok {
			cell = fmt.Sprintf("%.0f", number)
		}
		if cell != "" && cell != "<nil>" && i < len(wanted) && strings.TrimSpace(wanted[i]) == "*" {
			cell = "*"
		}
		h.WriteString(sep + c.Name)
		r.WriteString(sep + cell)
	}
	return h.String(), r.String()
}
