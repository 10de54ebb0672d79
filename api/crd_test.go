// SPDX-License-Identifier: Apache-2.0

package api_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"
)

const (
	crdDir   = "../config/crd"
	chartDir = "../charts/herald/files/crds"
)

// readDir reads the definitions of a directory, by file name.
func readDir(t *testing.T, dir string) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "*_*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no definitions in %s: %v", dir, err)
	}
	out := map[string]string{}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.Base(p)] = string(b)
	}
	return out
}

func definitions(t *testing.T) map[string]*apiextensions.CustomResourceDefinition {
	t.Helper()
	out := map[string]*apiextensions.CustomResourceDefinition{}
	for name, text := range readDir(t, crdDir) {
		crd := &apiextensions.CustomResourceDefinition{}
		if err := yaml.UnmarshalStrict([]byte(text), crd); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out[name] = crd
	}
	return out
}

func TestChartHasTheSameDefinitions(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(readDir(t, crdDir), readDir(t, chartDir)); diff != "" {
		t.Errorf("run go generate ./api/... (-config/crd +chart):\n%s", diff)
	}
}

func TestKustomizationNamesEveryDefinition(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(filepath.Join(crdDir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var kustomization struct {
		Resources []string `json:"resources"`
	}
	if err := yaml.Unmarshal(b, &kustomization); err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(maps.Keys(readDir(t, crdDir)))
	if diff := cmp.Diff(want, kustomization.Resources); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEveryVersionHasStatusAndColumns(t *testing.T) {
	t.Parallel()
	for name, crd := range definitions(t) {
		if c := crd.Spec.Conversion; c == nil || c.Strategy != apiextensions.NoneConverter {
			t.Errorf("%s: conversion is %+v: a webhook of another implementation would stay when the definition is updated", name, c)
		}
		if crd.Spec.Scope != apiextensions.NamespaceScoped {
			t.Errorf("%s: scope is %s", name, crd.Spec.Scope)
		}
		for _, v := range crd.Spec.Versions {
			if !v.Served || v.Subresources == nil || v.Subresources.Status == nil || len(v.AdditionalPrinterColumns) == 0 {
				t.Errorf("%s: %s is not served, or has no status subresource or no columns", name, v.Name)
			}
		}
	}
}

// The two versions of BGPPeer must be able to hold the same object: the API server changes only the version's name.
func TestVersionsOfBGPPeerHaveTheSameSchema(t *testing.T) {
	t.Parallel()
	crd := definitions(t)["metallb.io_bgppeers.yaml"]
	schemas := map[string]apiextensions.JSONSchemaProps{}
	for _, v := range crd.Spec.Versions {
		schemas[v.Name] = v.Schema.OpenAPIV3Schema.Properties["spec"]
		if want := v.Name == "v1beta2"; v.Storage != want {
			t.Errorf("%s: storage is %t, want %t", v.Name, v.Storage, want)
		}
	}
	if diff := cmp.Diff(schemas["v1beta1"], schemas["v1beta2"]); diff != "" {
		t.Errorf("(-v1beta1 +v1beta2):\n%s", diff)
	}
}

func TestEveryFieldIsDescribed(t *testing.T) {
	t.Parallel()
	for name, crd := range definitions(t) {
		for _, v := range crd.Spec.Versions {
			if v.Schema.OpenAPIV3Schema.Description == "" {
				t.Errorf("%s: %s: the kind has no description", name, v.Name)
			}
			for _, path := range undescribed("", v.Schema.OpenAPIV3Schema) {
				t.Errorf("%s: %s: %s has no description", name, v.Name, path)
			}
		}
	}
}

func undescribed(path string, s *apiextensions.JSONSchemaProps) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		// kubectl explain has its own text for metadata.
		if p.Description == "" && path+"."+name != ".metadata" {
			out = append(out, path+"."+name)
		}
		out = append(out, undescribed(path+"."+name, &p)...)
	}
	if s.Items != nil && s.Items.Schema != nil {
		out = append(out, undescribed(path+"[]", s.Items.Schema)...)
	}
	return out
}

// Every CEL rule has its own message: the default one is the rule itself.
func TestEveryRuleHasAMessage(t *testing.T) {
	t.Parallel()
	for name, crd := range definitions(t) {
		for _, v := range crd.Spec.Versions {
			for _, path := range mute("", v.Schema.OpenAPIV3Schema) {
				t.Errorf("%s: %s: %s", name, v.Name, path)
			}
		}
	}
}

func mute(path string, s *apiextensions.JSONSchemaProps) []string {
	var out []string
	for _, r := range s.XValidations {
		if r.Message == "" && r.MessageExpression == "" {
			out = append(out, fmt.Sprintf("%s: rule %.60q has no message", path, r.Rule))
		}
		if strings.Contains(r.Rule+r.MessageExpression, "'@") {
			out = append(out, fmt.Sprintf("%s: the name of rule %.60q was not replaced", path, r.Rule))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		p := s.Properties[name]
		out = append(out, mute(path+"."+name, &p)...)
	}
	if s.Items != nil && s.Items.Schema != nil {
		out = append(out, mute(path+"[]", s.Items.Schema)...)
	}
	return out
}

// Every exported name of the API packages has a comment; TestEveryFieldIsDescribed looks at the fields.
func TestEveryExportedTypeIsDocumented(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{".", "v1alpha1", "v1beta1", "v1beta2"} {
		paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(filepath.Base(path), "zz_") {
				continue
			}
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, path, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range file.Decls {
				for _, what := range undocumented(d) {
					t.Errorf("%s: %s has no comment", path, what)
				}
			}
		}
	}
}

func undocumented(d ast.Decl) []string {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && d.Doc == nil {
			return []string{d.Name.Name}
		}
	case *ast.GenDecl:
		var out []string
		for _, s := range d.Specs {
			if t, ok := s.(*ast.TypeSpec); ok && t.Name.IsExported() && d.Doc == nil && t.Doc == nil {
				out = append(out, t.Name.Name)
			}
			if v, ok := s.(*ast.ValueSpec); ok && v.Names[0].IsExported() && d.Doc == nil && v.Doc == nil {
				out = append(out, v.Names[0].Name)
			}
		}
		return out
	}
	return nil
}
