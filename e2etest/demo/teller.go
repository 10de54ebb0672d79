// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// teller writes the story: numbered steps with the time since the beginning, and what was seen below them.
type teller struct {
	mu    sync.Mutex // guards out: the lab's progress comes from elsewhere
	out   io.Writer
	begun time.Time
	steps int
}

func newTeller(out io.Writer) *teller { return &teller{out: out, begun: time.Now()} }

const margin = "            "

func (t *teller) title(text string) {
	t.printf("%s\n", text)
}

func (t *teller) step(text string) {
	t.steps++
	t.printf("\n%6.1f s %2d  %s\n", time.Since(t.begun).Seconds(), t.steps, text)
}

// say tells what happened, with the time at which it did.
func (t *teller) say(text string) {
	t.printf("%6.1f s     %s\n", time.Since(t.begun).Seconds(), text)
}

func (t *teller) highlight(text string) {
	t.printf("\n%s==> %s\n", margin, text)
}

// command shows a command and its output. where is empty for the operator's own machine.
func (t *teller) command(where, line, output string) {
	prompt := "$ "
	if where != "" {
		prompt = where + "$ "
	}
	t.printf("\n%s%s%s\n%s", margin, prompt, line, indent(output))
}

func (t *teller) end() {
	t.printf("%6.1f s     done\n", time.Since(t.begun).Seconds())
}

func (t *teller) printf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.out, format, args...)
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		if line != "\n" {
			b.WriteString(margin)
		}
		b.WriteString(line)
	}
	return b.String()
}

// lines returns a writer that says each line written to it.
func (t *teller) lines() io.Writer { return &lineWriter{say: t.say} }

type lineWriter struct {
	mu   sync.Mutex // guards rest
	rest []byte
	say  func(string)
}

func (w *lineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rest = append(w.rest, p...)
	for {
		line, rest, ok := bytes.Cut(w.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		w.say(string(line))
		w.rest = rest
	}
}
