// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/snapshot"
	"github.com/heraldlb/herald/internal/kube/status"
)

// settled is a cluster of n Services that have all they want.
func settled(n int) snapshot.Objects {
	o := snapshot.Objects{
		Namespaces: []*corev1.Namespace{{ObjectMeta: metav1.ObjectMeta{Name: "default"}}},
		Pools: []*v1beta1.IPAddressPool{{
			ObjectMeta: metav1.ObjectMeta{Namespace: "metallb-system", Name: "load"},
			Spec:       v1beta1.IPAddressPoolSpec{Addresses: []string{"10.100.0.0/16"}},
		}},
	}
	for i := range n {
		o.Services = append(o.Services, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: fmt.Sprintf("load-%05d", i*7919%n), UID: types.UID(fmt.Sprint(i)), ResourceVersion: fmt.Sprint(1000 + i),
				CreationTimestamp: metav1.NewTime(time.Unix(1_700_000_000+int64(i/60), 0)),
				Annotations:       map[string]string{api.AnnotationAllocatedFromPool: "load"},
			},
			Spec: corev1.ServiceSpec{
				Type: corev1.ServiceTypeLoadBalancer, ClusterIP: "10.96.0.1", ClusterIPs: []string{"10.96.0.1"},
				Selector: map[string]string{"app": "server"}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
				IPFamilyPolicy: new(corev1.IPFamilyPolicySingleStack), Ports: []corev1.ServicePort{{Protocol: corev1.ProtocolTCP, Port: 80}},
			},
			Status: corev1.ServiceStatus{
				LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: fmt.Sprintf("10.100.%d.%d", i/256, i%256)}}},
			},
		})
	}
	// The conditions say what a plan says.
	byKey := map[lb.ServiceKey]*corev1.Service{}
	for _, svc := range o.Services {
		byKey[lb.ServiceKey{Namespace: svc.Namespace, Name: svc.Name}] = svc
	}
	snap, _ := snapshot.Build(o, snapshot.Options{Namespace: "metallb-system"})
	for _, d := range ipam.Plan(snap).Services {
		byKey[d.Key].Status.Conditions = []metav1.Condition{{Type: api.ConditionAllocated, Status: metav1.ConditionTrue,
			Reason: string(d.Reason.Code), Message: d.Reason.Text}}
	}
	return o
}

// BenchmarkRound is what a round decides when one of many Services is new: everything but reading the caches and writing.
func BenchmarkRound(b *testing.B) {
	for _, n := range []int{5_000, 10_000} {
		for _, gone := range []int{0, 2_000} {
			b.Run(fmt.Sprintf("services=%d/gone=%d", n, gone), func(b *testing.B) { benchmarkRound(b, n, gone) })
		}
	}
}

func benchmarkRound(b *testing.B, n, gone int) {
	objs := settled(n + gone)
	m := newMemory(time.Hour, &shelf{}, slog.New(slog.DiscardHandler))
	now := time.Unix(1_800_000_000, 0)
	m.recall(objs.Services, now)
	objs.Services = objs.Services[:n]
	old := objs.Services[n/2]
	var memo snapshot.Memo
	var shown status.Memo
	b.ReportAllocs()
	for b.Loop() {
		fresh := old.DeepCopy()
		fresh.Status, fresh.Annotations = corev1.ServiceStatus{}, nil
		objs.Services = slices.Clone(objs.Services)
		objs.Services[n/2] = fresh
		remembered, _ := m.recall(objs.Services, now)
		snap, problems := snapshot.Build(objs, snapshot.Options{Namespace: "metallb-system", Memo: &memo, Remembered: remembered})
		plan := ipam.Plan(snap)
		o := objs
		o.Services = memo.ByKey()
		if writes := status.Controller(o, plan, problems, status.ControllerOptions{Namespace: "metallb-system", Now: now, Memo: &shown}); len(writes) > 3 || len(writes) == 0 {
			b.Fatalf("%d writes for one new Service", len(writes))
		}
	}
}
