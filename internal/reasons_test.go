// SPDX-License-Identifier: Apache-2.0

package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestReasonsAreProduced walks the list of reasons. Each has to be named by a
// package that gives it, and expected by a test or a text case of such a package:
// what nobody expects may never be said. (The cases of core/ipam check the same
// for reasons that a plan has really given.) It opens the files itself, as
// TestArchitecture does.
func TestReasonsAreProduced(t *testing.T) {
	t.Parallel()
	root := os.DirFS("..")
	codes := reasonCodes(t, root)
	given, expected := map[string]map[string]bool{}, map[string]map[string]bool{} // code, package
	words := regexp.MustCompile(`\w+`)
	err := fs.WalkDir(root, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		dir := path.Dir(file)
		pkg := strings.TrimSuffix(dir, "/testdata")
		if !(strings.HasPrefix(dir, "internal/core/") || strings.HasPrefix(dir, "internal/kube/") || dir == "speaker" || dir == "internal/core/ownership") || dir == "internal/core/reason" {
			return nil
		}
		test := strings.HasSuffix(file, "_test.go") || dir != pkg
		if !test && path.Ext(file) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, file)
		if err != nil {
			return err
		}
		for name, value := range codes {
			switch {
			case strings.Contains(string(text), "reason."+name):
				note(map[bool]map[string]map[string]bool{true: expected, false: given}[test], name, pkg)
			case test && contains(words, text, value):
				note(expected, name, pkg)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range codes {
		if len(given[name]) == 0 {
			t.Errorf("nobody gives the reason %s: remove it from the list", name)
			continue
		}
		ok := false
		for pkg := range given[name] {
			ok = ok || expected[name][pkg]
		}
		if !ok {
			t.Errorf("no test of %v expects the reason %s", given[name], name)
		}
	}
}

func note(where map[string]map[string]bool, name, pkg string) {
	if where[name] == nil {
		where[name] = map[string]bool{}
	}
	where[name][pkg] = true
}

// contains looks for a whole word.
func contains(words *regexp.Regexp, text []byte, word string) bool {
	if !strings.Contains(string(text), word) {
		return false
	}
	for _, w := range words.FindAllString(string(text), -1) {
		if w == word {
			return true
		}
	}
	return false
}

// reasonCodes reads the constants of the list: names and values.
func reasonCodes(t *testing.T, root fs.FS) map[string]string {
	t.Helper()
	const list = "internal/core/reason/list.go"
	text, err := fs.ReadFile(root, list)
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), list, text, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		if lit, ok := spec.Values[0].(*ast.BasicLit); ok {
			out[spec.Names[0].Name], err = strconv.Unquote(lit.Value)
		}
		return err == nil
	})
	if err != nil || len(out) < 40 {
		t.Fatalf("%d reasons found in %s: %v", len(out), list, err)
	}
	return out
}
