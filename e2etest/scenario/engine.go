// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/heraldlb/herald/e2etest/probe"
)

// Options say how to run scenarios.
type Options struct {
	// Dir holds the scenarios, files named *.txtar.
	Dir string
	// Root is the top of the source tree.
	Root string
	// Artefacts is the directory that keeps what a failed scenario leaves, one directory each.
	Artefacts string
	// Break stops at the end of every scenario, BreakOnFailure when one fails, until the operator goes on.
	Break, BreakOnFailure bool
	// Trace receives every command as it runs; may be nil.
	Trace io.Writer
	// Limit is the longest time one scenario may take; default 5 minutes.
	Limit time.Duration
	// AtOnce is how many scenarios may run at the same time; default 2. With more of them on a small machine, what they
	// measure is the machine.
	AtOnce int
}

const (
	defaultLimit  = 5 * time.Minute
	defaultAtOnce = 2
	// What finish may need after the limit has passed, to collect what is left and to end the labs.
	finishLimit = time.Minute
)

type sessionKey struct{}

// Params returns what testscript needs to run the scenarios, until ctx ends.
func Params(ctx context.Context, o Options) testscript.Params {
	if o.Limit == 0 {
		o.Limit = defaultLimit
	}
	if o.AtOnce == 0 {
		o.AtOnce = defaultAtOnce
	}
	slots := make(chan struct{}, o.AtOnce)
	if o.Trace == nil {
		o.Trace = io.Discard
	}
	cmds := map[string]func(*testscript.TestScript, bool, []string){}
	for name, c := range commands() {
		cmds[name] = adapt(name, c)
	}
	return testscript.Params{
		Dir:                o.Dir,
		Cmds:               cmds,
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			slots <- struct{}{}
			env.Defer(func() { <-slots })
			return setUp(ctx, env, o)
		},
	}
}

func setUp(ctx context.Context, env *testscript.Env, o Options) error {
	name := strings.TrimPrefix(filepath.Base(env.WorkDir), "script-")
	ctx, cancel := context.WithCancelCause(ctx)
	s := &session{
		name:   name,
		opts:   o,
		ctx:    ctx,
		cancel: func() { cancel(nil) },
		timer:  time.AfterFunc(o.Limit, func() { cancel(fmt.Errorf("the scenario took longer than %v", o.Limit)) }),
		dir:    filepath.Join(o.Artefacts, name),
		labs:   map[string]*running{},
		held:   map[string]*probe.Held{},
		begun:  time.Now(),
		limit:  defaultOverlap,
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return fmt.Errorf("make the directory of artefacts: %w", err)
	}
	env.Values[sessionKey{}] = s
	env.Defer(func() { s.finish(env.T()) })
	return nil
}

// command is one word of the language. Its output is what the commands stdout and retry -match look at.
type command struct {
	usage string
	help  string
	run   func(ctx context.Context, s *session, args []string) (string, error)
}

func adapt(name string, c command) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		s, ok := ts.Value(sessionKey{}).(*session)
		if !ok {
			ts.Fatalf("scenario: the session is missing")
		}
		s.script = ts
		bang := ""
		if neg {
			bang = "! "
		}
		fmt.Fprintf(s.opts.Trace, "%7.1fs %s: %s%s %s\n", time.Since(s.begun).Seconds(), s.name, bang, name, strings.Join(args, " "))
		out, err := c.run(s.ctx, s, args)
		fmt.Fprint(ts.Stdout(), out)
		if err != nil {
			fmt.Fprintln(ts.Stderr(), err)
		}
		switch {
		case err != nil && !neg:
			ts.Fatalf("%s: %v", name, err)
		case err == nil && neg:
			ts.Fatalf("%s: succeeded, but must fail; output:\n%s", name, out)
		}
	}
}

// dispatch runs a command by name, for the commands that run others.
func (s *session) dispatch(ctx context.Context, argv []string) (string, error) {
	if len(argv) == 0 {
		return "", fmt.Errorf("want a command")
	}
	c, ok := commands()[argv[0]]
	if !ok {
		return "", fmt.Errorf("%q is no command of the scenarios that can be run here", argv[0])
	}
	return c.run(ctx, s, argv[1:])
}

// Commands writes a manual of all commands.
func Commands(w io.Writer) {
	cmds := commands()
	for _, name := range slices.Sorted(maps.Keys(cmds)) {
		c := cmds[name]
		fmt.Fprintf(w, "%s %s\n    %s\n", name, c.usage, c.help)
	}
}

// commands returns all of them.
func commands() map[string]command {
	all := map[string]command{}
	for _, group := range []map[string]command{
		labCommands(), kubeCommands(), waitCommands(), hostCommands(), measureCommands(), heldCommands(), serviceCommands(), eventCommands(),
	} {
		maps.Copy(all, group)
	}
	return all
}
