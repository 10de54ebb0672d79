// SPDX-License-Identifier: Apache-2.0

package snapshot_test

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// TestMemo builds one reading after the other, in each of which some Services
// and endpoints are new, changed or gone, with a memo of either kind and without.
func TestMemo(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		r := random{rand.New(rand.NewPCG(seed, 2))}
		o := r.objects()
		o.Services = nil
		var memo snapshot.Memo
		var last snapshot.Last
		var gone *corev1.Service
		opt := snapshot.Options{Namespace: ns}
		for next := range 300 {
			for made := range r.IntN(4) {
				switch i := r.IntN(len(o.Services) + 1); {
				case i == len(o.Services) || r.IntN(5) < 2:
					o.Services = append(o.Services, r.service(next*4+made))
				case r.IntN(3) == 0:
					gone = o.Services[i]
					o.Services = slices.Delete(o.Services, i, i+1)
				case gone != nil && r.IntN(3) == 0: // back, and the very same
					o.Services = append(o.Services, gone)
					gone = nil
				default: // the cache never changes an object: it gets another one
					s := r.service(0)
					s.ObjectMeta = *o.Services[i].ObjectMeta.DeepCopy()
					s.Labels = r.labels()
					o.Services[i] = s
				}
			}
			o.Services = shuffled(r, o.Services)
			r.moveSlices(&o)
			want, _ := snapshot.Build(o, opt)
			text := encode(t, want.Services)
			opt.Last = &last
			short, _ := snapshot.Build(o, opt)
			if diff := gocmp.Diff(text, encode(t, short.Services)); diff != "" {
				t.Fatalf("seed %d, reading %d: without the last one, with it (-want +got):\n%s", seed, next, diff)
			}
			opt.Last, opt.Memo = nil, &memo
			got, _ := snapshot.Build(o, opt)
			opt.Memo = nil
			if by := memo.ByKey(); len(by) != len(o.Services) || !slices.IsSortedFunc(by, func(a, b *corev1.Service) int {
				return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name))
			}) {
				t.Fatalf("seed %d, reading %d: %d Services of %d, or not sorted", seed, next, len(by), len(o.Services))
			}
			if diff := gocmp.Diff(text, encode(t, got.Services)); diff != "" {
				t.Fatalf("seed %d, reading %d: without a memo, with one (-want +got):\n%s", seed, next, diff)
			}
		}
	}
}

// moveSlices makes some EndpointSlices of the Services come, go and change.
func (r random) moveSlices(o *snapshot.Objects) {
	for range r.IntN(3) {
		i := r.IntN(len(o.EndpointSlices) + 1)
		if i < len(o.EndpointSlices) && r.IntN(3) == 0 {
			o.EndpointSlices = slices.Delete(o.EndpointSlices, i, i+1)
			continue
		}
		s := r.slice(r.IntN(100))
		if len(o.Services) > 0 && r.IntN(5) > 0 {
			svc := pick(r, o.Services...)
			s.Namespace, s.Labels[discoveryv1.LabelServiceName] = svc.Namespace, svc.Name
		}
		if i < len(o.EndpointSlices) {
			o.EndpointSlices[i] = s
		} else {
			o.EndpointSlices = append(o.EndpointSlices, s)
		}
	}
	o.EndpointSlices = shuffled(r, o.EndpointSlices)
}

// TestMemoForgets looks whether objects that are gone stay in memory.
func TestMemoForgets(t *testing.T) {
	t.Parallel()
	var memo snapshot.Memo
	opt := snapshot.Options{Namespace: ns, Memo: &memo}
	s := svc("one")
	for range 10_000 {
		s = s.DeepCopy()
		snapshot.Build(snapshot.Objects{Services: []*corev1.Service{s}}, opt)
	}
	if n := memo.Len(); n > 300 {
		t.Errorf("keeps %d objects, of which one is left", n)
	}
}
