// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/ownership"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// cleanTimeout bounds one request of clean.
const cleanTimeout = 10 * time.Second

// clean removes the reports of nodes that died. Their Pods own them, but the
// API server keeps those Pods until the node is given up, minutes later. It has
// a loop of its own: when it fails, or takes long, no report is to wait for it.
func (s *speaker) clean(ctx context.Context) (time.Duration, error) {
	var errs []error
	for _, node := range s.engine.orphans(s.self) {
		var failed error
		back := false
		for _, kind := range []snapshot.Object{&v1beta1.ServiceL2Status{}, &v1beta1.ServiceBGPStatus{}, &v1alpha1.BGPSession{}} {
			if !s.knows() {
				return 0, errors.Join(errs...) // it may live; regain says when to go on
			}
			if back = !s.engine.isDead(node); back {
				break // what it reports is true
			}
			if err := s.deleteReports(ctx, kind, node); err != nil {
				failed = errors.Join(failed, fmt.Errorf("delete the %T objects of node %s: %w", kind, node, err))
			}
		}
		if failed != nil {
			errs = append(errs, failed)
			continue
		}
		if !back { // else it may be dead again by now
			s.engine.forget(node)
		}
	}
	return 0, errors.Join(errs...)
}

func (s *speaker) deleteReports(ctx context.Context, kind snapshot.Object, node lb.NodeName) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	return s.cluster.Client().DeleteLabelled(ctx, kind, s.opts.Namespace, labels.Set{api.LabelNode: string(node)})
}

// orphans returns the dead nodes whose reports this speaker is to remove: it is
// the first living one in hash order for them, or was when it began. One that
// has come since may be the first now, and does not know that they lived.
func (e *engine) orphans(self lb.NodeName) []lb.NodeName {
	var nodes []lb.NodeName
	e.query(func(m *ownership.Machine) {
		for _, n := range slices.Sorted(maps.Keys(e.dead)) {
			if e.dead[n] && (e.cleaning[n] || m.FirstLive("node/"+string(n)) == self) {
				e.cleaning[n] = true
				nodes = append(nodes, n)
			}
		}
	})
	return nodes
}

// forget notes that the reports of a dead node are removed.
func (e *engine) forget(node lb.NodeName) {
	e.query(func(*ownership.Machine) {
		delete(e.dead, node)
		delete(e.cleaning, node)
	})
}

func (e *engine) isDead(node lb.NodeName) bool {
	dead := false
	e.query(func(*ownership.Machine) { dead = e.dead[node] })
	return dead
}
