// SPDX-License-Identifier: Apache-2.0

package burst

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// Times are the moments in the life of a new Service: its creation was sent, and answered, and a watch showed an address.
type Times struct{ Begun, Answered, Addressed time.Time }

// Paced creates n Services, one every so often however long each takes, and returns their times when all have an address.
func Paced(ctx context.Context, kube kubernetes.Interface, namespace, prefix string, n int, every time.Duration) ([]Times, error) {
	w, err := kube.CoreV1().Services(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("watch Services: %w", err)
	}
	defer w.Stop()
	p := pacer{times: make(map[string]*Times, n)}
	for i := range n {
		p.times[name(prefix, i)] = &Times{}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return p.follow(ctx, w.ResultChan(), n) })
	next := time.NewTicker(every)
	defer next.Stop()
	for i := range n {
		g.Go(func() error { return p.create(ctx, kube, namespace, prefix, i) })
		select {
		case <-ctx.Done():
			return nil, g.Wait()
		case <-next.C:
		}
	}
	if err := g.Wait(); err != nil {
		return nil, fmt.Errorf("create %d Services, one every %v: %w", n, every, err)
	}
	out := make([]Times, n)
	for i := range n {
		out[i] = *p.times[name(prefix, i)]
	}
	return out, nil
}

type pacer struct {
	mu    sync.Mutex // guards what times points to
	times map[string]*Times
}

func (p *pacer) create(ctx context.Context, kube kubernetes.Interface, namespace, prefix string, i int) error {
	svc := loadBalancer(prefix, "", i)
	svc.Spec.AllocateLoadBalancerNodePorts = new(false) // there may be more Services than node ports
	begun := time.Now()
	_, err := kube.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.times[name(prefix, i)]
	t.Begun, t.Answered = begun, time.Now()
	return nil
}

// follow ends when all n have an address.
func (p *pacer) follow(ctx context.Context, events <-chan watch.Event, n int) error {
	for done := 0; done < n; {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d Services have an address: %w", done, n, ctx.Err())
		case ev, ok := <-events:
			if !ok {
				return fmt.Errorf("the watch ended; %d of %d Services have an address", done, n)
			}
			if s, ok := ev.Object.(*corev1.Service); ok && p.addressed(s) {
				done++
			}
		}
	}
	return nil
}

// addressed notes the first time that one of the Services is seen with an address.
func (p *pacer) addressed(s *corev1.Service) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.times[s.Name]
	if t == nil || !t.Addressed.IsZero() || len(s.Status.LoadBalancer.Ingress) == 0 {
		return false
	}
	t.Addressed = time.Now()
	return true
}

// Delete deletes the Services of that prefix numbered from FIRST up to, but not, END; none of them need be there.
func Delete(ctx context.Context, kube kubernetes.Interface, namespace, prefix string, first, end int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(Clients)
	for i := first; i < end; i++ {
		g.Go(func() error {
			err := kube.CoreV1().Services(namespace).Delete(ctx, name(prefix, i), metav1.DeleteOptions{})
			if apierrors.IsNotFound(err) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("delete Services: %w", err)
	}
	return nil
}
