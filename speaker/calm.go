// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/status"
)

// Speakers that reach the API server but not each other both believe that they
// own an address, and each finds its report overwritten by the other. A report
// that is written again with nothing new in it waits, each time twice as long,
// and goes without an event: that was sent the first time.
//
// Only what the API server has taken counts, and only as long as the speaker
// does not change its mind: a write that failed has calmed nobody, and endpoints
// that come and go are news each time.
const (
	calmFirst  = time.Second
	calmMax    = time.Minute
	calmForget = 5 * time.Minute
)

// calm remembers what this speaker reported on each Service.
type calm struct {
	said map[lb.ServiceKey]said
	// saying is what the writes say that filter let pass last.
	saying map[lb.ServiceKey]reason.Reason
}

type said struct {
	uid    types.UID // of the Service; one that was made anew is another one
	reason reason.Reason
	at     time.Time
	pause  time.Duration // until the same may be said again
}

// filter returns the writes that may go out now, and when to look again (0:
// nothing is held back). What is not about a Service always may.
func (c *calm) filter(writes []status.Write, reports []status.ServiceReport, now time.Time) ([]status.Write, time.Duration) {
	c.saying = map[lb.ServiceKey]reason.Reason{}
	if len(writes)+len(c.said) == 0 {
		return nil, 0
	}
	verdicts := make(map[lb.ServiceKey]reason.Reason, len(reports))
	for i := range reports {
		verdicts[reports[i].Key] = reports[i].Reason
	}
	for key, s := range c.said {
		if verdict, exists := verdicts[key]; !exists || verdict != s.reason || now.Sub(s.at) >= calmForget {
			delete(c.said, key)
		}
	}
	var again time.Duration
	kept := make([]status.Write, 0, len(writes))
	for _, w := range writes {
		if key, ok := serviceOf(w); ok {
			last, repeats := c.said[key]
			if repeats && last.uid != w.Object.GetUID() {
				delete(c.said, key)
				last, repeats = said{}, false
			}
			if left := last.pause - now.Sub(last.at); left > 0 {
				if again == 0 || left < again {
					again = left
				}
				continue
			}
			c.saying[key] = verdicts[key]
			if repeats {
				w.Events = nil
			}
		}
		kept = append(kept, w)
	}
	return kept, again
}

// note remembers which of the writes that filter let pass were carried out.
func (c *calm) note(done []status.Write, now time.Time) {
	if c.said == nil {
		c.said = map[lb.ServiceKey]said{}
	}
	for _, w := range done {
		if key, ok := serviceOf(w); ok {
			next := said{uid: w.Object.GetUID(), reason: c.saying[key], at: now, pause: calmFirst}
			if last, again := c.said[key]; again {
				next.pause = min(2*last.pause, calmMax)
			}
			c.said[key] = next
		}
	}
}

func serviceOf(w status.Write) (lb.ServiceKey, bool) {
	svc, ok := w.Object.(*corev1.Service)
	if !ok {
		return lb.ServiceKey{}, false
	}
	return lb.ServiceKey{Namespace: svc.Namespace, Name: svc.Name}, true
}
