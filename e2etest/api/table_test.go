// SPDX-License-Identifier: Apache-2.0

package api

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

// testCase is one section of a file in testdata.
type testCase struct {
	name    string
	want    string   // accepted or rejected
	says    []string // parts of the message of a rejection
	stored  map[string]any
	from    map[string]any // nil: created at once
	content map[string]any
}

// suite is what all tests share: one API server. Its methods are the tests.
type suite struct {
	config *rest.Config
	client dynamic.Interface
}

// TestAPI needs one server for all; its parts do not depend on each other.
func TestAPI(t *testing.T) {
	t.Parallel()
	config := startServer(t)
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	s := suite{config: config, client: client}
	// First, since it begins with other definitions.
	t.Run("stored", s.stored)

	install(t, client, "herald", readCRDs(t))
	t.Run("objects", s.objects)
	t.Run("versions", s.versions)
	t.Run("status", s.status)
	t.Run("columns", s.columns)
	t.Run("limits", s.limits)
	t.Run("random", s.random)
	t.Run("examples", s.examples)
	t.Run("reapply", s.reapply)
}

func (s suite) objects(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			count := map[string]int{}
			for i, c := range readCases(t, file) {
				count[c.want]++
				t.Run(c.name, func(t *testing.T) {
					runCase(t, s.client, c, fmt.Sprintf("case-%d", i))
				})
			}
			if count["accepted"] == 0 || count["rejected"] == 0 {
				t.Errorf("%d accepted and %d rejected objects: a kind needs at least one of each", count["accepted"], count["rejected"])
			}
		})
	}
}

func readCases(t *testing.T, file string) []testCase {
	t.Helper()
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var cases []testCase
	for _, f := range archive.Files {
		object := map[string]any{}
		for _, text := range [][]byte{archive.Comment, f.Data} {
			if err := decode(text, &object); err != nil {
				t.Fatalf("%s: %s: %v", file, f.Name, err)
			}
		}
		c := testCase{name: f.Name, content: object}
		c.want, _ = take(object, "want").(string)
		c.from, _ = take(object, "from").(map[string]any)
		c.stored, _ = take(object, "stored").(map[string]any)
		says, _ := take(object, "says").([]any)
		for _, s := range says {
			c.says = append(c.says, fmt.Sprint(s))
		}
		if c.want != "accepted" && c.want != "rejected" {
			t.Fatalf("%s: %s: want is %q, not accepted or rejected", file, f.Name, c.want)
		}
		if c.want == "rejected" && len(c.says) == 0 {
			t.Fatalf("%s: %s: a rejection needs says", file, f.Name)
		}
		cases = append(cases, c)
	}
	return cases
}

func take(m map[string]any, key string) any {
	v := m[key]
	delete(m, key)
	return v
}

func runCase(t *testing.T, client dynamic.Interface, c testCase, name string) {
	t.Helper()
	u := &unstructured.Unstructured{Object: c.content}
	u.SetName(name)
	u.SetNamespace("default")
	objects := client.Resource(resourceOf(u)).Namespace("default")
	t.Cleanup(func() { remove(t, objects, name) })

	var got *unstructured.Unstructured
	var err error
	if c.from == nil {
		got, err = objects.Create(t.Context(), u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
	} else {
		before := u.DeepCopy()
		maps.Copy(before.Object, c.from)
		created, createErr := objects.Create(t.Context(), before, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
		if createErr != nil {
			t.Fatalf("the object to start from: %v", createErr)
		}
		u.SetResourceVersion(created.GetResourceVersion())
		got, err = objects.Update(t.Context(), u, metav1.UpdateOptions{FieldValidation: metav1.FieldValidationStrict})
	}

	switch c.want {
	case "accepted":
		if err != nil {
			t.Fatalf("rejected: %v", err)
		}
		if diff := missing("", c.stored, got.Object); len(diff) > 0 {
			t.Errorf("stored otherwise:\n%s", strings.Join(diff, "\n"))
		}
	case "rejected":
		if err == nil {
			t.Fatalf("accepted, but should be rejected: it says %q", c.says)
		}
		t.Log(err) // with -v, to read the messages as a user does
		for _, s := range c.says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("the message does not say %q:\n%v", s, err)
			}
		}
		for _, s := range []string{"evaluation error", "cost budget", "no such key", "no such overload", "failed rule", "evaluating rule"} {
			if strings.Contains(err.Error(), s) {
				t.Errorf("the message shows the inside of a rule (%q):\n%v", s, err)
			}
		}
	}
}

// missing lists what of want is not in got. A null in want means that there is no such field.
func missing(path string, want, got any) []string {
	w, ok := want.(map[string]any)
	if !ok {
		if fmt.Sprint(want) != fmt.Sprint(got) {
			return []string{fmt.Sprintf("%s: want %v, got %v", path, want, got)}
		}
		return nil
	}
	g, _ := got.(map[string]any)
	var out []string
	for _, k := range slices.Sorted(maps.Keys(w)) {
		if w[k] == nil {
			if v, found := g[k]; found {
				out = append(out, fmt.Sprintf("%s.%s: want none, got %v", path, k, v))
			}
			continue
		}
		out = append(out, missing(path+"."+k, w[k], g[k])...)
	}
	return out
}

// resourceOf is where objects of the kind of u are.
func resourceOf(u *unstructured.Unstructured) schema.GroupVersionResource {
	gvk := u.GroupVersionKind()
	plural := strings.ToLower(gvk.Kind) + "s"
	switch {
	case strings.HasSuffix(gvk.Kind, "Status"):
		plural = strings.ToLower(gvk.Kind) + "es"
	case strings.HasSuffix(gvk.Kind, "y"):
		plural = strings.TrimSuffix(strings.ToLower(gvk.Kind), "y") + "ies"
	}
	return gvk.GroupVersion().WithResource(plural)
}
