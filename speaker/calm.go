// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
	"github.com/heraldlb/herald/internal/kube/status"
)

// Speakers that reach the API server but not each other both believe that they
// own an address, and each finds its report overwritten by the other. A report
// that is written again with nothing new in it waits, each time twice as long.
const (
	calmFirst  = time.Second
	calmMax    = time.Minute
	calmForget = 5 * time.Minute
)

// calm remembers what this speaker reported on each Service.
type calm struct {
	said map[lb.ServiceKey]said
}

type said struct {
	reason reason.Reason
	at     time.Time
	pause  time.Duration // until the same may be said again
}

// filter returns the writes that may go out now, and when to look again (0:
// nothing is held back). What is not about a Service always may.
func (c *calm) filter(writes []status.Write, reports []status.ServiceReport, now time.Time) ([]status.Write, time.Duration) {
	verdicts := make(map[lb.ServiceKey]reason.Reason, len(reports))
	for i := range reports {
		verdicts[reports[i].Key] = reports[i].Reason
	}
	for key, s := range c.said {
		if _, exists := verdicts[key]; !exists || now.Sub(s.at) >= calmForget {
			delete(c.said, key)
		}
	}
	if c.said == nil {
		c.said = map[lb.ServiceKey]said{}
	}
	var again time.Duration
	kept := make([]status.Write, 0, len(writes))
	for _, w := range writes {
		svc, ok := w.Object.(*corev1.Service)
		if !ok {
			kept = append(kept, w)
			continue
		}
		key := lb.ServiceKey{Namespace: svc.Namespace, Name: svc.Name}
		next := said{reason: verdicts[key], at: now, pause: calmFirst}
		if last, ok := c.said[key]; ok && last.reason == next.reason {
			if left := last.pause - now.Sub(last.at); left > 0 {
				if again == 0 || left < again {
					again = left
				}
				continue
			}
			next.pause = min(2*last.pause, calmMax)
		}
		c.said[key] = next
		kept = append(kept, w)
	}
	return kept, again
}
