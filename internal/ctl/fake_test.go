// SPDX-License-Identifier: Apache-2.0

package ctl_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

// fakeServer is an API server that holds whole objects and answers lists in
// pages of two, and gets of one Service.
type fakeServer struct {
	objects  []*unstructured.Unstructured
	errors   map[string]error // by resource
	requests []string         // paths, without parameters
}

// newFakeServer holds the objects of a YAML file of several documents.
func newFakeServer(t *testing.T, text string) *fakeServer {
	t.Helper()
	s := &fakeServer{errors: map[string]error{}}
	d := utilyaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		o := &unstructured.Unstructured{}
		switch err := d.Decode(&o.Object); {
		case errors.Is(err, io.EOF):
			return s
		case err != nil:
			t.Fatal(err)
		case len(o.Object) > 0:
			s.objects = append(s.objects, o)
		}
	}
}

// resourceOf names the resource of a kind as paths do.
func resourceOf(kind string) string {
	switch kind {
	case "Community":
		return "communities"
	case "ServiceL2Status":
		return "servicel2statuses"
	case "ServiceBGPStatus":
		return "servicebgpstatuses"
	}
	return strings.ToLower(kind) + "s"
}

func (s *fakeServer) Get(_ context.Context, path string, params url.Values) ([]byte, error) {
	s.requests = append(s.requests, path)
	parts := strings.Split(strings.Trim(path, "/"), "/")
	version := 2 // api/v1
	if parts[0] == "apis" {
		version = 3
	}
	api, rest := strings.Join(parts[1:version], "/"), parts[version:]
	namespace, name := "", ""
	if len(rest) > 2 && rest[0] == "namespaces" {
		namespace, rest = rest[1], rest[2:]
	}
	resource := rest[0]
	if len(rest) > 1 {
		name = rest[1]
	}
	if err := s.errors[resource]; err != nil {
		return nil, err
	}
	var found []*unstructured.Unstructured
	for _, o := range s.objects {
		if o.GetAPIVersion() == api && resourceOf(o.GetKind()) == resource && (namespace == "" || o.GetNamespace() == namespace) &&
			(name == "" || o.GetName() == name) && selected(o, params) {
			found = append(found, o)
		}
	}
	if name != "" {
		if len(found) == 0 {
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: resource}, name)
		}
		return json.Marshal(found[0])
	}
	return page(found, params)
}

func selected(o *unstructured.Unstructured, params url.Values) bool {
	if f := params.Get("fieldSelector"); f != "" {
		if of, _, _ := unstructured.NestedString(o.Object, "spec", "type"); f != "spec.type="+of {
			return false
		}
	}
	sel, err := labels.Parse(params.Get("labelSelector"))
	return err == nil && sel.Matches(labels.Set(o.GetLabels()))
}

// page answers a list, two objects at a time.
func page(found []*unstructured.Unstructured, params url.Values) ([]byte, error) {
	if params.Get("limit") == "" {
		return nil, fmt.Errorf("a list without a limit")
	}
	from, _ := strconv.Atoi(params.Get("continue"))
	to := min(from+2, len(found))
	meta := map[string]any{}
	if to < len(found) {
		meta["continue"] = strconv.Itoa(to)
	}
	items := []any{}
	for _, o := range found[from:to] {
		items = append(items, o.Object)
	}
	var b bytes.Buffer
	err := json.NewEncoder(&b).Encode(map[string]any{"metadata": meta, "items": items})
	return b.Bytes(), err
}
