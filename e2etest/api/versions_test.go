// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// object reads a manifest; it is put into the namespace default.
func object(t *testing.T, manifest string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	if err := decode([]byte(manifest), &u.Object); err != nil {
		t.Fatalf("%v in\n%s", err, manifest)
	}
	u.SetNamespace("default")
	return u
}

// decode reads YAML as the API machinery holds it: whole numbers are int64.
func decode(text []byte, into *map[string]any) error {
	b, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return err
	}
	return utiljson.Unmarshal(b, into)
}

// create creates the object of a manifest and removes it when the test ends.
func create(t *testing.T, client dynamic.Interface, manifest string) (dynamic.ResourceInterface, *unstructured.Unstructured) {
	t.Helper()
	u := object(t, manifest)
	objects := client.Resource(resourceOf(u)).Namespace("default")
	got, err := objects.Create(t.Context(), u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remove(t, objects, u.GetName()) })
	return objects, got
}

func remove(t *testing.T, objects dynamic.ResourceInterface, name string) {
	t.Helper()
	err := objects.Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		t.Errorf("delete %s: %v", name, err)
	}
}

func peers(client dynamic.Interface, version string) dynamic.ResourceInterface {
	return client.Resource(schema.GroupVersionResource{Group: "metallb.io", Version: version, Resource: "bgppeers"}).Namespace("default")
}

// versions: what is written in one version of BGPPeer is read in the other, and writing it back loses nothing, though
// no webhook converts.
func (s suite) versions(t *testing.T) {
	const old = `
apiVersion: metallb.io/v1beta1
kind: BGPPeer
metadata: {name: old}
spec:
  myASN: 64512
  peerASN: 64513
  peerAddress: 192.0.2.1
  sourceAddress: 192.0.2.2
  peerPort: 1179
  holdTime: 90s
  keepaliveTime: 30s
  routerID: 192.0.2.9
  nodeSelectors: [{matchLabels: {rack: r1}, matchExpressions: [{key: a, operator: In, values: [b]}]}]
  password: secret
  bfdProfile: fast
  ebgpMultiHop: true`
	const current = `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: current}
spec:
  myASN: 64512
  dynamicASN: external
  localASN: 65000
  interface: eth1
  connectTime: 5s
  passwordSecret: {name: bgp}
  enableGracefulRestart: true
  dualStackAddressFamily: true
  vrf: red`
	for _, c := range []struct{ name, manifest, written, other string }{
		{"old", old, "v1beta1", "v1beta2"},
		{"current", current, "v1beta2", "v1beta1"},
	} {
		t.Run("written as "+c.written, func(t *testing.T) {
			_, created := create(t, s.client, c.manifest)
			read, err := peers(s.client, c.other).Get(t.Context(), c.name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got, want := read.GetAPIVersion(), "metallb.io/"+c.other; got != want {
				t.Errorf("apiVersion is %s, want %s", got, want)
			}
			if diff := cmp.Diff(created.Object["spec"], read.Object["spec"]); diff != "" {
				t.Errorf("spec as %s (-written +read):\n%s", c.other, diff)
			}

			read.SetLabels(map[string]string{"changed": "yes"})
			if _, err := peers(s.client, c.other).Update(t.Context(), read, metav1.UpdateOptions{}); err != nil {
				t.Fatalf("write back as %s: %v", c.other, err)
			}
			back, err := peers(s.client, c.written).Get(t.Context(), c.name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(created.Object["spec"], back.Object["spec"]); diff != "" {
				t.Errorf("spec after a round through %s (-before +after):\n%s", c.other, diff)
			}
			if back.GetLabels()["changed"] != "yes" {
				t.Error("the change is lost")
			}
		})
	}
}

// reapply: applying the same definitions again changes nothing for the objects that are there.
func (s suite) reapply(t *testing.T) {
	objects, before := create(t, s.client, `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: kept}
spec: {addresses: [192.0.2.0/24]}`)
	install(t, s.client, "herald", readCRDs(t))
	after, err := objects.Get(t.Context(), "kept", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before.Object, after.Object); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
	after.SetLabels(map[string]string{"changed": "yes"})
	if _, err := objects.Update(t.Context(), after, metav1.UpdateOptions{}); err != nil {
		t.Errorf("update after applying again: %v", err)
	}
}

// stored: objects that were stored under definitions without our rules can still be changed, get a status, and be
// deleted, when ours are installed over them: this is what happens to a cluster that changes to Herald.
func (s suite) stored(t *testing.T) {
	crds := readCRDs(t)
	install(t, s.client, "another", permissive(t, crds))
	manifests := map[string]string{
		"a pool with overlapping ranges": `
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: stored}
spec: {addresses: [192.0.2.0/24, 192.0.2.7/32, nonsense, 192.0.2.9-192.0.2.8], serviceAllocation: {priority: -1}}`,
		"an L2Advertisement with an unknown operator": `
apiVersion: metallb.io/v1beta1
kind: L2Advertisement
metadata: {name: stored}
spec: {nodeSelectors: [{matchExpressions: [{key: "a b", operator: Gt, values: ["1"]}]}], preferredNodeSelectors: [{weight: 500, preference: {}}]}`,
		"a BGPAdvertisement with everything wrong": `
apiVersion: metallb.io/v1beta1
kind: BGPAdvertisement
metadata: {name: stored}
spec: {aggregationLength: 24, serviceSelectors: [{}], communities: ["1:2:3"], peers: [A_B]}`,
		"a BGPPeer with everything wrong": `
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: stored}
spec: {myASN: 0, peerASN: 1, dynamicASN: any, peerAddress: x, interface: eth9, holdTime: "1", keepaliveTime: 5h, connectTime: 0s, password: a, passwordSecret: {name: b}, peerPort: 0}`,
		"a BFDProfile out of range": `
apiVersion: metallb.io/v1beta1
kind: BFDProfile
metadata: {name: stored}
spec: {receiveInterval: 1}`,
		"a Community without a name": `
apiVersion: metallb.io/v1beta1
kind: Community
metadata: {name: stored}
spec: {communities: [{value: "1:2:3"}, {name: a, value: x}]}`,
	}
	stored := map[string]dynamic.ResourceInterface{}
	for name, m := range manifests {
		stored[name], _ = create(t, s.client, m)
	}
	replaceWebhook(t, s.client, crds)
	install(t, s.client, "herald", crds)
	rulesApply(t, s.client)

	for name, objects := range stored {
		t.Run(name, func(t *testing.T) {
			u, err := objects.Get(t.Context(), "stored", metav1.GetOptions{})
			if err != nil {
				t.Fatalf("read: %v", err)
			}
			u.SetLabels(map[string]string{"changed": "yes"})
			u, err = objects.Update(t.Context(), u, metav1.UpdateOptions{})
			if err != nil {
				t.Fatalf("change a label: %v", err)
			}
			setValid(u, "False", "Invalid", "it was stored before the rules")
			if _, err := objects.UpdateStatus(t.Context(), u, metav1.UpdateOptions{}); err != nil {
				t.Errorf("write the status: %v", err)
			}
		})
	}

	t.Run("a wrong pool keeps its wrong ranges while another field changes", func(t *testing.T) {
		patch := []byte(`{"spec":{"autoAssign":false}}`)
		u, err := stored["a pool with overlapping ranges"].Patch(t.Context(), "stored", types.MergePatchType, patch, metav1.PatchOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if v, _, _ := unstructured.NestedBool(u.Object, "spec", "autoAssign"); v {
			t.Error("autoAssign is still true")
		}
	})
}

// replaceWebhook does what a user must do before Herald's definitions can be applied over ones with a conversion webhook,
// and shows that they are refused before, rather than taken with a webhook that nobody serves.
func replaceWebhook(t *testing.T, client dynamic.Interface, crds []*unstructured.Unstructured) {
	t.Helper()
	i := slices.IndexFunc(crds, func(u *unstructured.Unstructured) bool { return u.GetName() == "bgppeers.metallb.io" })
	options := metav1.ApplyOptions{FieldManager: "herald", Force: true}
	_, err := client.Resource(crdResource).Apply(t.Context(), crds[i].GetName(), crds[i], options)
	if !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "should not be set when strategy is not set to Webhook") {
		t.Errorf("applied over a webhook: want a rejection that says so, got %v", err)
	}
	patch := []byte(`[{"op": "replace", "path": "/spec/conversion", "value": {"strategy": "None"}}]`)
	_, err = client.Resource(crdResource).Patch(t.Context(), crds[i].GetName(), types.JSONPatchType, patch, metav1.PatchOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// rulesApply waits until the API server refuses a wrong object: it takes a moment after a definition changed.
func rulesApply(t *testing.T, client dynamic.Interface) {
	t.Helper()
	for _, manifest := range []string{
		`{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: probe}, spec: {addresses: [wrong]}}`,
		`{apiVersion: metallb.io/v1beta1, kind: L2Advertisement, metadata: {name: probe}, spec: {preferredNodeSelectors: [{weight: 0, preference: {}}]}}`,
		`{apiVersion: metallb.io/v1beta1, kind: BGPAdvertisement, metadata: {name: probe}, spec: {aggregationLength: 0}}`,
		`{apiVersion: metallb.io/v1beta2, kind: BGPPeer, metadata: {name: probe}, spec: {myASN: 0}}`,
		`{apiVersion: metallb.io/v1beta1, kind: BFDProfile, metadata: {name: probe}, spec: {receiveInterval: 1}}`,
		`{apiVersion: metallb.io/v1beta1, kind: Community, metadata: {name: probe}, spec: {communities: [{name: a, value: b}]}}`,
	} {
		u := object(t, manifest)
		eventually(t, "refuse a wrong "+u.GetKind(), func(ctx context.Context) error {
			_, err := client.Resource(resourceOf(u)).Namespace("default").Create(ctx, u, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if apierrors.IsInvalid(err) {
				return nil
			}
			if err == nil {
				err = errors.New("it was accepted")
			}
			return err
		})
	}
}

// permissive are the same definitions as another implementation may have left them: the schemas take any object, and a
// webhook that is gone converts BGPPeers.
func permissive(t *testing.T, crds []*unstructured.Unstructured) []*unstructured.Unstructured {
	t.Helper()
	var out []*unstructured.Unstructured
	for _, crd := range crds {
		crd = crd.DeepCopy()
		versions, _, _ := unstructured.NestedSlice(crd.Object, "spec", "versions")
		for _, v := range versions {
			v.(map[string]any)["schema"] = map[string]any{"openAPIV3Schema": map[string]any{
				"type": "object", "x-kubernetes-preserve-unknown-fields": true,
			}}
		}
		if err := unstructured.SetNestedSlice(crd.Object, versions, "spec", "versions"); err != nil {
			t.Fatal(err)
		}
		if crd.GetName() == "bgppeers.metallb.io" {
			conversion := map[string]any{"strategy": "Webhook", "webhook": map[string]any{
				"conversionReviewVersions": []any{"v1"},
				"clientConfig":             map[string]any{"service": map[string]any{"namespace": "metallb-system", "name": "gone", "path": "/convert"}},
			}}
			if err := unstructured.SetNestedMap(crd.Object, conversion, "spec", "conversion"); err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, crd)
	}
	return out
}
