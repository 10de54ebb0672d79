// SPDX-License-Identifier: Apache-2.0

// Package burst creates many Services at once, and looks at the addresses they get.
package burst

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
)

// Clients is how many clients create Services at the same time.
const Clients = 16

func name(prefix string, i int) string { return fmt.Sprintf("%s-%04d", prefix, i) }

// loadBalancer returns a Service to create. It selects Pods labelled app=SELECTOR, or none if that is empty.
func loadBalancer(prefix, selector string, i int) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name(prefix, i)},
		Spec: corev1.ServiceSpec{
			Type:  corev1.ServiceTypeLoadBalancer,
			Ports: []corev1.ServicePort{{Port: 80}},
		},
	}
	if selector != "" {
		s.Spec.Selector = map[string]string{"app": selector}
	}
	return s
}

// nodePorts is what the default range of node ports, 30000 to 32767, is enough for.
const nodePorts = 2000

// Create creates Services of type LoadBalancer named PREFIX-0000 and so on, which select Pods labelled app=SELECTOR; without a
// selector they have no endpoints. If they are many they get no node ports.
func Create(ctx context.Context, kube kubernetes.Interface, namespace, prefix, selector string, n int) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(Clients)
	for i := range n {
		g.Go(func() error {
			svc := loadBalancer(prefix, selector, i)
			svc.Spec.AllocateLoadBalancerNodePorts = new(n <= nodePorts)
			_, err := kube.CoreV1().Services(namespace).Create(ctx, svc, metav1.CreateOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("create %d Services: %w", n, err)
	}
	return nil
}

// Service is a Service of type LoadBalancer and what it got.
type Service struct {
	Namespace, Name string
	IPs             []string
}

// List returns all Services of type LoadBalancer, sorted, and the resource version of the list.
func List(ctx context.Context, kube kubernetes.Interface) ([]Service, string, error) {
	list, err := kube.CoreV1().Services("").List(ctx, metav1.ListOptions{
		FieldSelector: fields.OneTermEqualSelector("spec.type", string(corev1.ServiceTypeLoadBalancer)).String()})
	if err != nil {
		return nil, "", fmt.Errorf("list Services: %w", err)
	}
	out := make([]Service, 0, len(list.Items))
	for i := range list.Items {
		out = append(out, service(&list.Items[i]))
	}
	slices.SortFunc(out, func(a, b Service) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	return out, list.ResourceVersion, nil
}

func service(s *corev1.Service) Service {
	out := Service{Namespace: s.Namespace, Name: s.Name}
	for _, in := range s.Status.LoadBalancer.Ingress {
		out.IPs = append(out.IPs, in.IP)
	}
	return out
}

// Table writes the Services and their addresses, one line each.
func Table(services []Service) string {
	var b strings.Builder
	for _, s := range services {
		fmt.Fprintf(&b, "%s/%s %s\n", s.Namespace, s.Name, strings.Join(s.IPs, ","))
	}
	return b.String()
}

// Addressed returns how many of them have an address.
func Addressed(services []Service) (n int) {
	for _, s := range services {
		if len(s.IPs) > 0 {
			n++
		}
	}
	return n
}

// Distinct returns an error that names the first address that two Services have.
func Distinct(services []Service) error {
	holder := map[string]string{}
	for _, s := range services {
		name := s.Namespace + "/" + s.Name
		for _, ip := range s.IPs {
			if other, ok := holder[ip]; ok {
				return fmt.Errorf("%s and %s both have %s", other, name, ip)
			}
			holder[ip] = name
		}
	}
	return nil
}

// WaitAll watches the Services whose name begins with PREFIX- until n of them have an address.
func WaitAll(ctx context.Context, kube kubernetes.Interface, namespace, prefix string, n int) error {
	have := map[string]bool{}
	for {
		list, err := kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return fmt.Errorf("list Services: %w", err)
		}
		for i := range list.Items {
			note(have, &list.Items[i], prefix)
		}
		if len(have) >= n {
			return nil
		}
		w, err := kube.CoreV1().Services(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
		if err != nil {
			return fmt.Errorf("watch Services: %w", err)
		}
		for ev := range w.ResultChan() {
			if s, ok := ev.Object.(*corev1.Service); ok {
				note(have, s, prefix)
			}
			if len(have) >= n {
				w.Stop()
				return nil
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%d of %d Services have an address: %w", len(have), n, ctx.Err())
		}
	}
}

func note(have map[string]bool, s *corev1.Service, prefix string) {
	if strings.HasPrefix(s.Name, prefix+"-") && len(s.Status.LoadBalancer.Ingress) > 0 {
		have[s.Name] = true
	}
}
