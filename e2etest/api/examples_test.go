// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// examples: what the files for other tools and the samples hold is accepted by the API server, without unknown fields.
func (s suite) examples(t *testing.T) {
	files, err := filepath.Glob(root + "/examples/*/*.y*ml")
	samples, err2 := filepath.Glob(root + "/config/samples/*.yaml")
	if err != nil || err2 != nil || len(files) == 0 || len(samples) == 0 {
		t.Fatalf("no examples: %v, %v", err, err2)
	}
	for _, dir := range []string{"kind", "containerlab", "containerlab-multihop"} {
		text, err := os.ReadFile(filepath.Join(root, "examples", dir, "README.md"))
		if err != nil || !strings.Contains(strings.ReplaceAll(string(text), "\n", " "), "Not run by CI.") {
			t.Errorf("examples/%s does not say that CI does not run it: %v", dir, err)
		}
	}
	kinds := map[string]bool{}
	for _, file := range slices.Concat(files, samples) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, doc := range bytes.Split(text, []byte("\n---\n")) {
			u := &unstructured.Unstructured{Object: map[string]any{}}
			if err := decode(doc, &u.Object); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if group := u.GroupVersionKind().Group; u.GetAPIVersion() == "" || strings.HasPrefix(group, "kind.") {
				continue // of another tool
			}
			kinds[u.GetKind()] = true
			s.example(t, file, u)
		}
	}
	for _, kind := range []string{"IPAddressPool", "L2Advertisement", "BGPAdvertisement", "BGPPeer", "BFDProfile", "Service", "Deployment"} {
		if !kinds[kind] {
			t.Errorf("no example has a %s: are the files read at all?", kind)
		}
	}
}

func (s suite) example(t *testing.T, file string, u *unstructured.Unstructured) {
	t.Helper()
	ours := strings.HasSuffix(u.GroupVersionKind().Group, "metallb.io")
	if want := "metallb-system"; ours && u.GetNamespace() != want {
		t.Errorf("%s: %s %s is in namespace %q, where Herald does not look; want %s", file, u.GetKind(), u.GetName(), u.GetNamespace(), want)
	}
	u.SetNamespace("default") // the only one that this server has
	_, err := s.client.Resource(resourceOf(u)).Namespace("default").Create(t.Context(), u,
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}, FieldValidation: metav1.FieldValidationStrict})
	if err != nil {
		t.Errorf("%s: %s %s: %v", file, u.GetKind(), u.GetName(), err)
	}
}
