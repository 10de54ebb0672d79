// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
)

var (
	worlds     = flag.Uint64("worlds", 20, "how many histories TestReports goes through")
	firstWorld = flag.Uint64("first-world", 1, "seed of the first")
)

// How long it may take after the last change until all that is reported is true.
const (
	// worldLimit: reportSettle, reportInterval, patience, and some more for what
	// has to happen first (a death is noticed, an address gets an owner).
	worldLimit = 8 * time.Second
	// worldFaultLimit: a request that is never answered holds a round up for as
	// long as a write may take, and what failed waits to be tried again.
	worldFaultLimit = 20 * time.Second
)

// TestReports: things happen, at a server that is late and fails; when both
// end, the condition becomes true within a time, and then nobody writes.
func TestReports(t *testing.T) {
	t.Parallel()
	for seed := *firstWorld; seed < *firstWorld+*worlds; seed++ {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { randomWorld(t, seed) })
		})
	}
}

func randomWorld(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 2))
	w := newWorld(t, seed, "n1", "n2", "n3", "n4")
	defer w.stopAll()
	w.advertise(r.IntN(3) == 0, true)
	w.startAll()
	for round := range 6 {
		limit := worldLimit
		if round%2 == 0 {
			limit = worldFaultLimit
			w.setFaults(true)
		}
		for range 1 + r.IntN(12) {
			what := w.step(r)
			t.Logf("%s %s", time.Now().Format("15:04:05.000"), what)
			time.Sleep(time.Duration(r.Int64N(int64(4*time.Second)) >> r.IntN(8)))
		}
		w.setFaults(false)
		w.settle("round "+strconv.Itoa(round), limit)
		w.quiet()
	}
}

// TestReportsStuck: no write of one speaker is answered. The others hear that it
// lives, so it may be its turn to report; they see to what they know.
func TestReportsStuck(t *testing.T) {
	t.Parallel()
	for _, mute := range []lb.NodeName{"n1", "n2", "n3"} {
		t.Run(string(mute), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, 1, "n1", "n2", "n3")
				defer w.stopAll()
				w.advertise(false, true)
				w.startAll()
				w.settle("start", worldLimit)
				w.setStuck(func(node, method, _, _ string) bool { return node == string(mute) && method != http.MethodGet })
				w.partial = true
				w.setEndpoints()
				w.settle("no endpoints", patience+deputyWait+worldLimit)
				w.setEndpoints("n1")
				w.settle("endpoints again", worldLimit)
				for _, n := range w.names {
					w.setSession(n, false)
				}
				if named := w.named(); named != mute { // what it alone knows, nobody else can say
					w.settle("no session", patience+deputyWait+worldLimit)
				}
				w.advertise(false, false)
				w.settle("no advertisement", patience+deputyWait+worldLimit)
			})
		})
	}
}

// TestReportsAreNoNews: what a speaker has written leads to no other plan, and what
// others make of it neither, but is mended.
func TestReportsAreNoNews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1")
		defer w.stopAll()
		w.advertise(true, true)
		w.startAll()
		w.settle("start", worldLimit)
		time.Sleep(time.Minute)
		plan := w.alive["n1"].speaker.planned.Load()
		w.setLink("n1", false)
		w.settle("no link", worldLimit)
		w.setSession("n1", false)
		w.settle("no session", worldLimit)
		w.setLink("n1", true)
		w.settle("link again", worldLimit)
		w.api.mu.Lock()
		for id := range w.api.objects {
			if strings.HasPrefix(id, "servicel2statuses/") {
				w.api.drop(id)
			}
		}
		w.api.mu.Unlock()
		if w.wrongObjects() == "" {
			t.Error("nobody misses the ServiceL2Status")
		}
		w.settle("deleted by others", worldLimit)
		if w.alive["n1"].speaker.planned.Load() != plan {
			t.Error("there was another plan")
		}
	})
}

// TestReportsWhileCleaning: the reports of a dead node cannot be removed, and
// nothing else waits for that.
func TestReportsWhileCleaning(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		defer w.stopAll()
		w.advertise(false, true)
		w.startAll()
		w.settle("start", worldLimit)
		w.setStuck(func(_, method, _, name string) bool { return method == http.MethodDelete && name == "" })
		w.kill("n3")
		w.partial = true
		time.Sleep(5 * time.Second)
		for range 5 {
			w.setEndpoints()
			w.settle("no endpoints", worldLimit)
			w.setEndpoints("n1")
			w.settle("endpoints again", worldLimit)
		}
		w.setStuck(nil)
		w.partial = false
		w.settle("cleaned", time.Minute)
	})
}

// TestReportsCutOff: a speaker that hears nobody says so, after a moment, and takes
// it back at once.
func TestReportsCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 1, "n1", "n2", "n3")
		defer w.stopAll()
		w.advertise(true, false)
		w.startAll()
		w.settle("start", worldLimit)
		w.contact("at the start", "True Connected", "True Connected", "True Connected")
		w.doubt("n1", "n2", 20*time.Second)
		w.doubt("n1", "n3", 20*time.Second)
		time.Sleep(alonePatience - time.Second)
		w.contact("a moment later", "True Connected", "True Connected", "True Connected")
		time.Sleep(4 * time.Second)
		w.contact("cut off", "False CutOff", "True Connected", "True Connected")
		time.Sleep(15 * time.Second)
		w.contact("heard again", "True Connected", "True Connected", "True Connected")
	})
}

// contact compares what the speakers say of their contact with each other.
func (w *world) contact(when string, want ...string) {
	w.t.Helper()
	synctest.Wait()
	var got []string
	for _, n := range w.names {
		var s v1beta1.ConfigurationState
		w.api.get("configurationstates/"+worldNamespace+"/speaker-"+string(n), &s)
		text := "nothing"
		for _, c := range s.Status.Conditions {
			if c.Type == api.ConditionConnected {
				text = fmt.Sprintf("%s %s", c.Status, c.Reason)
			}
		}
		got = append(got, text)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

func (w *world) startAll() {
	w.t.Helper()
	for _, n := range w.names {
		w.start(n)
	}
}

func (w *world) setStuck(fn func(node, method, resource, name string) bool) {
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	w.api.stuck = fn
}

func (w *world) setFaults(on bool) {
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	w.api.faults = on
}

// quiet fails if anybody writes without need.
func (w *world) quiet() {
	w.t.Helper()
	time.Sleep(15 * time.Second) // what was decided before it was true
	w.api.mu.Lock()
	before := len(w.api.writes)
	w.api.mu.Unlock()
	time.Sleep(5 * time.Minute)
	w.settle("quiet", 0)
	w.api.mu.Lock()
	after := len(w.api.writes)
	w.api.mu.Unlock()
	if after != before {
		w.t.Fatalf("%d writes though nothing happened:\n%s", after-before, w.lastWrites())
	}
}

func (w *world) settle(what string, limit time.Duration) {
	w.t.Helper()
	begun := time.Now()
	for problem := w.wrong(); problem != ""; problem = w.wrong() {
		if time.Since(begun) > limit {
			w.t.Fatalf("%s: after %v: %s\nwrites:\n%s", what, limit, problem, w.lastWrites())
		}
		time.Sleep(50 * time.Millisecond)
	}
	w.t.Logf("%s: all is true after %v", what, time.Since(begun))
}

func (w *world) lastWrites() string {
	w.api.mu.Lock()
	defer w.api.mu.Unlock()
	return strings.Join(w.api.writes[max(0, len(w.api.writes)-40):], "\n")
}

// step changes one thing.
func (w *world) step(r *rand.Rand) string {
	pick := func() lb.NodeName { return w.names[r.IntN(len(w.names))] }
	n := pick()
	switch r.IntN(11) {
	case 0, 1:
		var nodes []lb.NodeName
		if r.IntN(2) > 0 {
			nodes = slices.Clone(w.names[:1+r.IntN(len(w.names))])
		}
		w.setEndpoints(nodes...)
		return "endpoints"
	case 2, 3:
		w.setSession(n, !w.up[n])
		return "session"
	case 4:
		if w.alive[n] != nil && len(w.alive) > 1 {
			w.kill(n)
			return "kill " + string(n)
		}
		return ""
	case 5:
		if w.alive[n] == nil {
			time.Sleep(3 * time.Second)
			w.start(n)
			return "start"
		}
		return ""
	case 6:
		w.advertise(r.IntN(2) > 0, r.IntN(4) > 0)
		return "advertise"
	case 7:
		w.setLink(n, !w.link[n])
		return "link"
	case 8:
		w.doubt(n, pick(), time.Duration(r.Int64N(int64(5*time.Second))))
		return "doubt"
	case 9:
		if w.alive[n] == nil {
			return ""
		}
		w.apart(n, w.link[n] && r.IntN(2) > 0, func() {
			time.Sleep(time.Duration(r.Int64N(int64(4*time.Second)) >> r.IntN(4)))
			if r.IntN(2) > 0 {
				w.setEndpoints(w.names[r.IntN(len(w.names))])
			}
		}, time.Duration(r.Int64N(int64(time.Second))), time.Duration(r.Int64N(int64(3*time.Second))))
		return "apart " + string(n)
	default:
		w.api.edit("services/default/web", func(o fakeObject) {
			metaOf(o)["labels"] = fakeObject{"count": time.Now().Format("150405.000")}
		})
		return "label"
	}
}
