// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// contentsOf reads a volume the way a program does, through its links.
func contentsOf(t *testing.T, dir string, names ...string) map[string]string {
	t.Helper()
	got := map[string]string{}
	for _, name := range names {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			got[name] = string(data)
		}
	}
	return got
}

func TestPublish(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "v")
	first := map[string]file{"a": {[]byte("1"), 0o644}, "sub/b": {[]byte("2"), 0o600}}
	if err := publish(dir, first, -1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "1", "sub/b": "2"}, contentsOf(t, dir, "a", "sub/b")); diff != "" {
		t.Errorf("at first (-want +got):\n%s", diff)
	}
	info, err := os.Stat(filepath.Join(dir, "sub/b"))
	if err != nil || info.Mode().Perm() != fs.FileMode(0o600) {
		t.Errorf("mode of sub/b: %v, %v, want 0600", info.Mode(), err)
	}
	second := map[string]file{"a": {[]byte("3"), 0o644}, "c": {[]byte("4"), 0o644}}
	if err := publish(dir, second, -1); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"a": "3", "c": "4"}, contentsOf(t, dir, "a", "sub/b", "c")); diff != "" {
		t.Errorf("after the change (-want +got):\n%s", diff)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	hidden := slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !strings.HasPrefix(e.Name(), "..") })
	if len(hidden) != 2 { // ..data and what it leads to
		t.Errorf("%d hidden entries, want 2: old contents must go", len(hidden))
	}
}

func TestPublishStaysInside(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	err := publish(filepath.Join(dir, "v"), map[string]file{"../evil": {nil, 0o644}}, -1)
	if err == nil {
		t.Error("a path out of the volume was accepted")
	}
	if _, err := os.Stat(filepath.Join(dir, "evil")); err == nil {
		t.Error("a file was written outside of the volume")
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	data := map[string][]byte{"a": []byte("1"), "b": []byte("2")}
	mode := int32(0o400)
	for _, test := range []struct {
		name     string
		items    []corev1.KeyToPath
		optional bool
		want     map[string]file
		fails    bool
	}{
		{name: "all keys", want: map[string]file{"a": {data["a"], 0o644}, "b": {data["b"], 0o644}}},
		{
			name: "one item under another name", items: []corev1.KeyToPath{{Key: "a", Path: "x/y", Mode: &mode}},
			want: map[string]file{"x/y": {data["a"], 0o400}},
		},
		{name: "a key that does not exist", items: []corev1.KeyToPath{{Key: "no", Path: "no"}}, fails: true},
		{name: "the same, optional", items: []corev1.KeyToPath{{Key: "no", Path: "no"}}, optional: true, want: map[string]file{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := map[string]file{}
			err := pick(got, "secret s", data, test.items, 0o644, test.optional)
			if (err != nil) != test.fails {
				t.Fatalf("error %v, want one: %v", err, test.fails)
			}
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(file{})); !test.fails && diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAddressPool(t *testing.T) {
	t.Parallel()
	p := newAddressPool(nil)
	seen := map[int]bool{}
	for range lastPodNumber - firstPodNumber + 1 {
		n, _, err := p.take()
		if err != nil || seen[n] {
			t.Fatalf("number %d, %v: want a fresh one", n, err)
		}
		seen[n] = true
	}
	if n, _, err := p.take(); err == nil {
		t.Errorf("number %d from an empty pool", n)
	}
	p.free(77)
	if n, _, err := p.take(); n != 77 || err != nil {
		t.Errorf("number %d, %v, want the freed 77", n, err)
	}
}

func TestSeekLines(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(path, []byte("one\ntwo\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[int]string{0: "", 1: "three\n", 2: "two\nthree\n", 3: "one\ntwo\nthree\n", 9: "one\ntwo\nthree\n"} {
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := seekLines(f, lines); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 100)
		n, _ := f.Read(got)
		f.Close()
		if string(got[:n]) != want {
			t.Errorf("last %d lines: %q, want %q", lines, got[:n], want)
		}
	}
}
