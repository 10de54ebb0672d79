// SPDX-License-Identifier: Apache-2.0

package internal_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

const product = "github.com/heraldlb/herald"

// rules are what check applies; see houseRules for the ones of this repository.
type rules struct {
	layers    []layer
	libraries []library
	// pure directories hold code that is a function of its arguments.
	pure []string
}

// layer says what the packages in and below dir may import: the directories in may, and no outside package whose path
// begins with one in not. stdOnly forbids all outside packages, except those made for tests in tests.
type layer struct {
	dir     string
	may     []string
	not     []string
	stdOnly bool
	why     string
}

// library says that only the directories in importers may import packages whose path begins with path.
type library struct {
	path      string
	importers []string
	why       string
}

// finding is one violation.
type finding struct {
	pos  string
	what string
	why  string
}

func (f finding) String() string { return fmt.Sprintf("%s: %s (why: %s)", f.pos, f.what, f.why) }

// source is one Go file of the tree.
type source struct {
	path  string // from the top of the tree
	dir   string
	test  bool
	text  string
	fset  *token.FileSet
	ast   *ast.File
	names map[string]string // import path by the name the file uses for it
}

// load parses every Go file of the tree.
func load(tree fs.FS) ([]source, error) {
	var files []source
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			hidden := strings.HasPrefix(d.Name(), ".") && p != "."
			if hidden || p == "bin" || d.Name() == "testdata" || d.Name() == "vendor" {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(p) != ".go" {
			return nil
		}
		f, err := parse(tree, p)
		if err == nil {
			files = append(files, f)
		}
		return err
	})
	return files, err
}

func parse(tree fs.FS, p string) (source, error) {
	text, err := fs.ReadFile(tree, p)
	if err != nil {
		return source{}, err
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	f := source{
		path: p, dir: path.Dir(p), test: strings.HasSuffix(p, "_test.go"),
		text: string(text), fset: fset, ast: file, names: map[string]string{},
	}
	for _, spec := range file.Imports {
		imported := importPath(spec)
		name := path.Base(imported)
		if spec.Name != nil {
			name = spec.Name.Name
		}
		f.names[name] = imported
	}
	return f, nil
}

// check applies the rules to the files, and those that hold everywhere.
func check(files []source, r rules) []finding {
	var found []finding
	for _, f := range files {
		found = append(found, r.checkImports(f)...)
		found = append(found, r.checkCode(f)...)
		if !ast.IsGenerated(f.ast) && !strings.HasPrefix(f.text, "// SPDX-License-Identifier: Apache-2.0\n") {
			found = append(found, finding{f.path, "does not begin with the line // SPDX-License-Identifier: Apache-2.0",
				"every file says under which licence it may be used"})
		}
	}
	return append(found, packageComments(files)...)
}

func (r rules) checkImports(f source) []finding {
	var found []finding
	l, ok := r.layerOf(f.dir)
	if !ok {
		return []finding{{f.path, "no layer is declared for directory " + f.dir,
			"where new code belongs is decided once, in internal/arch_test.go"}}
	}
	for _, spec := range f.ast.Imports {
		imported := importPath(spec)
		add := func(what, why string) {
			found = append(found, finding{f.at(spec), fmt.Sprintf("%s imports %s%s", f.dir, imported, what), why})
		}
		if dir, inside := strings.CutPrefix(imported, product+"/"); inside {
			if dir != f.dir && !within(dir, l.may) && !(f.test && (dir == "internal/netnstest" || dir == "internal/routertest")) {
				add("", l.why)
			}
			continue
		}
		for _, lib := range r.libraries {
			if hasPath(imported, lib.path) && !hasPath(f.dir, "e2etest") && !within(f.dir, lib.importers) {
				add(", which only "+strings.Join(lib.importers, " and ")+" may", lib.why)
			}
		}
		if slices.ContainsFunc(l.not, func(p string) bool { return strings.HasPrefix(imported, p) }) {
			add("", l.why)
		}
		if l.stdOnly && !standard(imported) && !(f.test && forTests(imported)) {
			add(": only the standard library is allowed there", l.why)
		}
		if !f.test && within(f.dir, r.pure) && impure(imported) {
			add(", which does I/O, locks, logs or waits", "pure code takes everything as an argument")
		}
	}
	return found
}

// checkCode looks for what no import shows.
func (r rules) checkCode(f source) []finding {
	var found []finding
	pure := !f.test && within(f.dir, r.pure)
	program := f.ast.Name.Name == "main"
	ast.Inspect(f.ast, func(n ast.Node) bool {
		add := func(what, why string) { found = append(found, finding{f.at(n), what, why}) }
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Name.Name == "init" && n.Recv == nil {
				add("func init", "what runs before main cannot be tested, ordered or given options")
			}
		case *ast.GoStmt:
			if pure {
				add("a goroutine in "+f.dir, "pure code has no concurrency; shells own goroutines")
			}
		case *ast.SelectorExpr:
			name := f.qualified(n)
			switch {
			case pure && slices.Contains(clock(), name):
				add(name+" in "+f.dir, "the time is an argument, so that tests decide what time it is")
			case !program && !f.test && slices.Contains(endings(), name):
				add(name+" outside package main", "a library returns its errors; only main ends the program")
			case !program && !f.test && !hasPath(f.dir, "e2etest") && (name == "context.Background" || name == "context.TODO"):
				add(name+" outside package main", "what may block takes a context, so that a shutdown reaches it")
			}
		}
		return true
	})
	return found
}

func clock() []string {
	return []string{"time.Now", "time.Since", "time.Until", "time.Sleep", "time.After", "time.AfterFunc", "time.Tick",
		"time.NewTimer", "time.NewTicker"}
}

func endings() []string {
	return []string{"os.Exit", "log.Fatal", "log.Fatalf", "log.Fatalln", "syscall.Exit"}
}

// packageComments finds packages none of whose files says what they are for. The external tests of a package belong to it.
func packageComments(files []source) []finding {
	documented := map[string]bool{}
	first := map[string]string{}
	for _, f := range files {
		key := f.dir + " " + strings.TrimSuffix(f.ast.Name.Name, "_test")
		documented[key] = documented[key] || hasComment(f.ast.Doc)
		if first[key] == "" {
			first[key] = f.path
		}
	}
	var found []finding
	for _, key := range slices.Sorted(maps.Keys(documented)) {
		if !documented[key] {
			_, name, _ := strings.Cut(key, " ")
			found = append(found, finding{first[key], "package " + name + " has no package comment",
				"the first question about a package is what it is for"})
		}
	}
	return found
}

// hasComment reports whether a package clause has a comment other than the licence line.
func hasComment(doc *ast.CommentGroup) bool {
	text := strings.TrimSpace(doc.Text())
	return text != "" && !strings.HasPrefix(text, "SPDX-")
}

// oversized lists what is larger than the limits the house aims at, the largest first. It fails no test.
func oversized(files []source) []string {
	type item struct {
		size int
		text string
	}
	var items []item
	for _, f := range files {
		if ast.IsGenerated(f.ast) {
			continue
		}
		if n := strings.Count(f.text, "\n"); n > 400 {
			items = append(items, item{n, fmt.Sprintf("%s has %d lines (400)", f.path, n)})
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				lines := f.fset.Position(n.End()).Line - f.fset.Position(n.Pos()).Line + 1
				if lines > 60 && !f.test {
					items = append(items, item{lines, fmt.Sprintf("%s: func %s has %d lines (60)", f.at(n), n.Name.Name, lines)})
				}
			case *ast.InterfaceType:
				if k := n.Methods.NumFields(); k > 5 {
					items = append(items, item{k, fmt.Sprintf("%s: an interface has %d methods (5)", f.at(n), k)})
				}
			}
			return true
		})
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(-cmp.Compare(a.size, b.size), cmp.Compare(a.text, b.text)) })
	texts := make([]string, 0, len(items))
	for _, i := range items {
		texts = append(texts, i.text)
	}
	return texts
}

func (r rules) layerOf(dir string) (layer, bool) {
	best, found := layer{}, false
	for _, l := range r.layers {
		if hasPath(dir, l.dir) && len(l.dir) > len(best.dir) {
			best, found = l, true
		}
	}
	return best, found
}

func (f source) at(n ast.Node) string {
	return f.path + ":" + strconv.Itoa(f.fset.Position(n.Pos()).Line)
}

// qualified returns "path.Name" for a selector on an imported package, else "".
func (f source) qualified(sel *ast.SelectorExpr) string {
	if id, ok := sel.X.(*ast.Ident); ok && f.names[id.Name] != "" {
		return f.names[id.Name] + "." + sel.Sel.Name
	}
	return ""
}

func importPath(spec *ast.ImportSpec) string {
	p, err := strconv.Unquote(spec.Path.Value)
	if err != nil {
		panic("archcheck: the parser accepted the import path " + spec.Path.Value)
	}
	return p
}

// hasPath reports whether p is dir or below it.
func hasPath(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

func within(p string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return hasPath(p, dir) })
}

// standard reports whether a path is of the standard library: its first element has no dot.
func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".")
}

func forTests(p string) bool {
	return within(p, []string{
		"github.com/google/go-cmp", "github.com/rogpeppe/go-internal", "go.uber.org/goleak", "golang.org/x/tools/txtar",
	})
}

// impure reports whether a package of the standard library has no place in pure code.
func impure(p string) bool {
	if p == "net/netip" {
		return false
	}
	return within(p, []string{"context", "io/fs", "io/ioutil", "log", "math/rand", "net", "os", "sync", "syscall", "unsafe"})
}
