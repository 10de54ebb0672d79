// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// minimal has one right object of every kind.
var minimal = []string{
	`{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: min}, spec: {addresses: [192.0.2.0/28]}}`,
	`{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: min}}`,
	`{apiVersion: metallb.io/v1beta1, kind: BGPAdvertisement, metadata: {name: min}}`,
	`{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {name: min}, spec: {myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1}}`,
	`{apiVersion: metallb.io/v1beta1, kind: BFDProfile, metadata: {name: min}}`,
	`{apiVersion: metallb.io/v1beta1, kind: Community, metadata: {name: min}}`,
}

func setValid(u *unstructured.Unstructured, status, reason, message string) {
	conditions := []any{map[string]any{
		"type": "Valid", "status": status, "reason": reason, "message": message,
		"lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": u.GetGeneration(),
	}}
	_ = unstructured.SetNestedSlice(u.Object, conditions, "status", "conditions") // no error: status is a map or absent
}

// status: the status is written on its own, and the rest is not changed by that, nor the status by the rest.
func (s suite) status(t *testing.T) {
	for _, m := range minimal {
		u := object(t, m)
		t.Run(u.GetKind(), func(t *testing.T) {
			objects, created := create(t, s.client, m)
			want := created.DeepCopy()

			// Through the object itself, a status is ignored.
			setValid(created, "True", "Valid", "")
			got, err := objects.Update(t.Context(), created, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, found, _ := unstructured.NestedSlice(got.Object, "status", "conditions"); found {
				t.Error("an update of the object wrote its status")
			}

			// Through the status, everything else is.
			setValid(got, "False", "Overlap", "in words")
			_ = unstructured.SetNestedField(got.Object, map[string]any{}, "spec")
			got, err = objects.UpdateStatus(t.Context(), got, metav1.UpdateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want.Object["spec"], got.Object["spec"]); diff != "" {
				t.Errorf("writing the status changed the spec (-before +after):\n%s", diff)
			}
			conditions, _, _ := unstructured.NestedSlice(got.Object, "status", "conditions")
			if len(conditions) != 1 || conditions[0].(map[string]any)["reason"] != "Overlap" {
				t.Errorf("conditions are %v", conditions)
			}
			if got.GetGeneration() != want.GetGeneration() {
				t.Errorf("writing the status changed the generation from %d to %d", want.GetGeneration(), got.GetGeneration())
			}

			// A decision made on an old object is refused.
			want.SetResourceVersion(created.GetResourceVersion())
			setValid(want, "True", "Valid", "")
			if _, err := objects.UpdateStatus(t.Context(), want, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
				t.Errorf("a status with an old resource version: want a conflict, got %v", err)
			}
		})
	}
	t.Run("values", s.statusValues)
}

// statusValues: what the programs write is taken, and a wrong state is not.
func (s suite) statusValues(t *testing.T) {
	for _, c := range []struct {
		manifest, status string
		rejected         string
	}{
		{minimal[0], `{assignedIPv4: 3, availableIPv4: 13, assignedIPv6: 0, availableIPv6: 9223372036854775807, usedIPv4: 3/16}`, ""},
		{minimal[0], `{assignedIPv4: many}`, "status.assignedIPv4"},
		{`{apiVersion: metallb.io/v1beta1, kind: ServiceL2Status, metadata: {name: st}}`,
			`{node: n1, serviceName: s, serviceNamespace: ns, interfaces: [{name: eth0}, {name: eth1}]}`, ""},
		{`{apiVersion: metallb.io/v1beta1, kind: ServiceBGPStatus, metadata: {name: st}, spec: {}}`,
			`{node: n1, serviceName: s, serviceNamespace: ns, peers: [a, b]}`, ""},
		{`{apiVersion: metallb.io/v1beta1, kind: ConfigurationState, metadata: {name: st}}`,
			`{result: Invalid, errorSummary: in words, conditions: [{type: poolReconcilerValid, status: "False", reason: ConfigurationError, message: in words, lastTransitionTime: "2026-01-02T03:04:05Z"}]}`, ""},
		{`{apiVersion: metallb.io/v1beta1, kind: ConfigurationState, metadata: {name: st}}`,
			`{result: Wrong}`, `status.result: Unsupported value: "Wrong"`},
		{`{apiVersion: heraldlb.io/v1alpha1, kind: BGPSession, metadata: {name: st}}`,
			`{node: n1, peer: p, peerAddress: 192.0.2.1, state: Established, since: "2026-01-02T03:04:05Z", prefixesSent: 12, bfdState: Up, lastError: ""}`, ""},
		{`{apiVersion: heraldlb.io/v1alpha1, kind: BGPSession, metadata: {name: st}}`,
			`{state: Open}`, `status.state: Unsupported value: "Open"`},
		{`{apiVersion: heraldlb.io/v1alpha1, kind: BGPSession, metadata: {name: st}}`,
			`{bfdState: up}`, `status.bfdState: Unsupported value: "up"`},
	} {
		t.Run(c.manifest+c.status, func(t *testing.T) {
			objects, u := create(t, s.client, c.manifest)
			want := object(t, "status: "+c.status).Object["status"].(map[string]any)
			u.Object["status"] = want
			got, err := objects.UpdateStatus(t.Context(), u, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
			if c.rejected != "" {
				if err == nil || !strings.Contains(err.Error(), c.rejected) {
					t.Fatalf("want an error about %s, got %v", c.rejected, err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range want {
				if diff := cmp.Diff(fmt.Sprint(v), fmt.Sprint(got.Object["status"].(map[string]any)[k])); diff != "" {
					t.Errorf("%s (-written +read):\n%s", k, diff)
				}
			}
		})
	}
}
