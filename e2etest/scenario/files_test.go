// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"
)

// words splits a line as testscript does, without expanding variables.
func words(line string) []string {
	var out []string
	var word strings.Builder
	quoted, begun := false, false
	for _, r := range line {
		switch {
		case r == '\'':
			quoted = !quoted
			begun = true
		case quoted:
			word.WriteRune(r)
		case r == '#' && !begun:
			return out
		case r == ' ' || r == '\t':
			if begun {
				out = append(out, word.String())
				word.Reset()
				begun = false
			}
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	if begun {
		out = append(out, word.String())
	}
	return out
}

// A scenario takes a minute to find out about a typo in its last line; this takes none.
func TestScenarioFiles(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../scenarios/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			text := string(a.Comment)
			if !strings.HasPrefix(text, "# ") {
				t.Error("the first line does not say what the scenario is about")
			}
			for i, line := range strings.Split(text, "\n") {
				if err := checkLine(words(line), a); err != "" {
					t.Errorf("%s:%d: %s: %s", file, i+1, line, err)
				}
			}
		})
	}
}

func checkLine(argv []string, a *txtar.Archive) string {
	if len(argv) > 0 && argv[0] == "!" {
		argv = argv[1:]
	}
	if len(argv) == 0 {
		return ""
	}
	name, args := argv[0], argv[1:]
	if slices.Contains([]string{"stdout", "stderr", "env", "cmp", "grep", "exec", "cp"}, name) || name == "!" {
		return ""
	}
	if _, ok := commands()[name]; !ok {
		return "no such command"
	}
	switch name {
	case "retry", "always":
		trial, err := parseTrial(args, time.Second)
		if err != nil {
			return err.Error()
		}
		return checkLine(trial.argv, a)
	case "lab":
		if _, _, err := parseLab(args); err != nil {
			return err.Error()
		}
	case "apply":
		return checkFiles(args, a)
	}
	return ""
}

func checkFiles(names []string, a *txtar.Archive) string {
	for _, name := range names {
		inArchive := slices.ContainsFunc(a.Files, func(f txtar.File) bool { return f.Name == name })
		found, _ := filepath.Glob("../../config/*/" + name) // samples or crd
		if filepath.Ext(name) == ".yaml" && !inArchive && len(found) == 0 {
			return name + " is neither in the archive nor in config/samples or config/crd"
		}
	}
	return ""
}
