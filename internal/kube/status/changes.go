// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
)

// change is a Service and what the plan wants of it.
type change struct {
	obj *corev1.Service
	ipam.Decision
	// force asks for a write in any case: see service.
	force bool
}

// Memo keeps which Services were found to show what was decided, so that the
// next call need not look at those again that are the same objects and are to
// show the same. The objects of a reading are never changed. It is for one
// goroutine; its zero value is ready, and nothing depends on it but speed.
type Memo struct{ shown []shown }

// shown is a Service that shows the decision.
type shown struct {
	obj *corev1.Service
	d   *ipam.Decision
}

// changes returns the Services that do not show what the plan says, and those
// that a write of unknown outcome is about. In most rounds that is one of
// thousands, so this is the only place that looks at all of them.
func changes(objs []*corev1.Service, plan []ipam.Decision, open []Underway, m *Memo) []change {
	objs = byKey(objs)
	unsure := make(map[types.UID]string, len(open))
	for _, u := range open {
		unsure[u.UID] = u.Version
	}
	var out []change
	before := m.last()
	now := make([]shown, 0, len(plan))
	for i := range plan { // by key, as the objects are
		d := &plan[i]
		for len(objs) > 0 && compareKeys(objs[0], d.Key) < 0 {
			objs = objs[1:]
		}
		if len(objs) == 0 || compareKeys(objs[0], d.Key) != 0 {
			continue
		}
		obj := objs[0]
		for len(before) > 0 && before[0].d.Key.Compare(d.Key) < 0 {
			before = before[1:]
		}
		known := len(before) > 0 && before[0].obj == obj && sameShown(before[0].d, d)
		does := known || shows(obj, d)
		if does {
			now = append(now, shown{obj, d})
		}
		version, pending := unsure[obj.UID]
		if pending || !does {
			out = append(out, change{obj, *d, pending && version == obj.ResourceVersion})
		}
	}
	if m != nil {
		m.shown = now
	}
	return out
}

func (m *Memo) last() []shown {
	if m == nil {
		return nil
	}
	return m.shown
}

// byKey returns the objects by key, which they may be already.
func byKey(objs []*corev1.Service) []*corev1.Service {
	compare := func(a, b *corev1.Service) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
	}
	if slices.IsSortedFunc(objs, compare) {
		return objs
	}
	return slices.SortedFunc(slices.Values(objs), compare)
}

func compareKeys(obj *corev1.Service, k lb.ServiceKey) int {
	return cmp.Or(strings.Compare(obj.Namespace, k.Namespace), strings.Compare(obj.Name, k.Name))
}

// sameShown reports whether a Service that shows a shows b, too.
func sameShown(a, b *ipam.Decision) bool {
	return slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Pools, b.Pools) && a.Reason == b.Reason
}

// shows reports whether the Service shows the decision already, which is so
// for almost all of them in every round. It allocates nothing; service
// compares again, and says what differs.
func shows(obj *corev1.Service, d *ipam.Decision) bool {
	if !lists(obj.Status.LoadBalancer.Ingress, d.Addresses) || !names(obj, d.Pools) {
		return false
	}
	c := find(obj.Status.Conditions, api.ConditionAllocated)
	return c != nil && c.Status == conditionStatus(d.Reason.Good()) && c.Reason == string(d.Reason.Code) &&
		c.Message == bounded(d.Reason.Text) && c.ObservedGeneration == obj.Generation
}

// lists reports whether addresses would return these.
func lists(in []corev1.LoadBalancerIngress, want []netip.Addr) bool {
	n := 0
	for i := range in {
		a, err := netip.ParseAddr(in[i].IP)
		if err != nil {
			continue
		}
		if n == len(want) || a.Unmap() != want[n] {
			return false
		}
		n++
	}
	return n == len(want)
}

// names reports whether annotations would return nothing.
func names(obj *corev1.Service, pools []string) bool {
	if len(pools) == 1 && pools[0] != "" {
		return obj.Annotations[api.AnnotationAllocatedFromPool] == pools[0]
	}
	return len(annotations(obj, pools)) == 0
}
