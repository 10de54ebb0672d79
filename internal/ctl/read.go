// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/api/v1beta2"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/kube/journal"
	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// Getter asks an API server: one GET, the body of the answer. Errors are those
// of apimachinery's package errors where the server says no.
type Getter interface {
	Get(ctx context.Context, path string, params url.Values) ([]byte, error)
}

// ReadOptions say what to read.
type ReadOptions struct {
	// Namespace is Herald's; empty: find it.
	Namespace string
	// LBClass and IgnoreExcludeLB: nil takes what Herald's Pods run with.
	LBClass         *string
	IgnoreExcludeLB *bool
	// Also is read even if it is not of type LoadBalancer. It may not exist.
	Also lb.ServiceKey
	// Now is when the reading is made.
	Now time.Time
}

// pageSize is how many objects one request asks for.
const pageSize = "500"

const (
	pathCore      = "/api/v1"
	pathDiscovery = "/apis/discovery.k8s.io/v1"
	pathBeta1     = "/apis/" + api.GroupMetalLB + "/v1beta1"
	pathHerald    = "/apis/" + api.GroupHerald + "/v1alpha1"
	pathBeta2     = "/apis/" + api.GroupMetalLB + "/v1beta2"

	defaultNamespace = "metallb-system"
	labelComponent   = "app.kubernetes.io/component"
)

// Read reads the cluster. The lists are read one after the other: what changes
// meanwhile may be in one and not yet in another.
func Read(ctx context.Context, g Getter, opt ReadOptions) (*Cluster, error) {
	c := &Cluster{Format: Format, Taken: metav1.NewTime(opt.Now.UTC().Truncate(time.Second)), Namespace: opt.Namespace}
	r := &reader{ctx: ctx, get: g, cluster: c}
	r.pools()
	r.services(opt.Also)
	c.Nodes = stripped(list[*corev1.Node](r, pathCore, "", "nodes", nil), stripNode)
	c.Namespaces = stripped(list[*corev1.Namespace](r, pathCore, "", "namespaces", nil), stripNamespace)
	c.L2Advertisements = stripped(list[*v1beta1.L2Advertisement](r, pathBeta1, c.Namespace, "l2advertisements", nil), stripL2Advertisement)
	c.BGPAdvertisements = stripped(list[*v1beta1.BGPAdvertisement](r, pathBeta1, c.Namespace, "bgpadvertisements", nil), stripBGPAdvertisement)
	c.Peers = stripped(list[*v1beta2.BGPPeer](r, pathBeta2, c.Namespace, "bgppeers", nil), stripPeer)
	c.BFDProfiles = stripped(list[*v1beta1.BFDProfile](r, pathBeta1, c.Namespace, "bfdprofiles", nil), stripBFDProfile)
	c.Communities = stripped(list[*v1beta1.Community](r, pathBeta1, c.Namespace, "communities", nil), stripCommunity)
	c.L2Statuses = stripped(list[*v1beta1.ServiceL2Status](r, pathBeta1, c.Namespace, "servicel2statuses", nil), stripL2Status)
	c.BGPStatuses = stripped(list[*v1beta1.ServiceBGPStatus](r, pathBeta1, c.Namespace, "servicebgpstatuses", nil), stripBGPStatus)
	c.Sessions = stripped(list[*v1alpha1.BGPSession](r, pathHerald, c.Namespace, "bgpsessions", nil), stripSession)
	r.states()
	r.reservations()
	r.memories()
	r.programs()
	if r.err != nil {
		return nil, r.err
	}
	if opt.LBClass != nil {
		c.LBClass = *opt.LBClass
	}
	if opt.IgnoreExcludeLB != nil {
		c.IgnoreExcludeLB = *opt.IgnoreExcludeLB
	}
	return c, nil
}

// reader fills a Cluster. After the first error it reads nothing more.
type reader struct {
	ctx     context.Context // a reader lives for one call of Read
	get     Getter
	cluster *Cluster
	err     error
}

func (r *reader) note(format string, args ...any) {
	r.cluster.Notes = append(r.cluster.Notes, fmt.Sprintf(format, args...))
}

// pools reads the pools and, if nobody named it, finds Herald's namespace.
func (r *reader) pools() {
	c := r.cluster
	c.Pools = stripped(list[*v1beta1.IPAddressPool](r, pathBeta1, c.Namespace, "ipaddresspools", nil), stripPool)
	if c.Namespace != "" || r.err != nil {
		return
	}
	c.Namespace = defaultNamespace
	seen := map[string]bool{}
	for _, p := range c.Pools {
		seen[p.Namespace] = true
	}
	switch in := slices.Sorted(maps.Keys(seen)); len(in) {
	case 0:
		r.note("There is no IPAddressPool in any namespace; %s is taken for Herald's namespace. If it is another, give --herald-namespace.", c.Namespace)
	case 1:
		c.Namespace = in[0]
	default:
		r.note("There are IPAddressPools in the namespaces %s; %s is taken for Herald's namespace. If it is another, give --herald-namespace.", strings.Join(in, ", "), c.Namespace)
	}
	c.Pools = slices.DeleteFunc(c.Pools, func(p *v1beta1.IPAddressPool) bool { return p.Namespace != c.Namespace })
}

// services reads the Services of type LoadBalancer, one more if it is named,
// and their endpoints.
func (r *reader) services(also lb.ServiceKey) {
	c := r.cluster
	objs := list[*corev1.Service](r, pathCore, "", "services", url.Values{"fieldSelector": {"spec.type=LoadBalancer"}})
	ours := make(map[lb.ServiceKey]bool, len(objs))
	for _, s := range objs {
		ours[lb.ServiceKey{Namespace: s.Namespace, Name: s.Name}] = true
	}
	if also != (lb.ServiceKey{}) && !ours[also] && r.err == nil {
		data, err := r.get.Get(r.ctx, pathCore+"/namespaces/"+also.Namespace+"/services/"+also.Name, nil)
		one := &corev1.Service{}
		switch {
		case err == nil:
			err = json.Unmarshal(data, one)
			objs = append(objs, one)
		case apierrors.IsNotFound(err):
			err = nil // whoever asked for it will see
		}
		r.fail("Service "+also.String(), err)
	}
	c.Services = stripped(objs, stripService)
	eps := list[*discoveryv1.EndpointSlice](r, pathDiscovery, "", "endpointslices", nil)
	eps = slices.DeleteFunc(eps, func(s *discoveryv1.EndpointSlice) bool {
		return !ours[lb.ServiceKey{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}]
	})
	c.EndpointSlices = stripped(eps, stripEndpointSlice)
}

// states reads what the programs say of themselves. Who may not see it learns
// everything else: it came later than most roles.
func (r *reader) states() {
	if r.err != nil {
		return
	}
	list := list[*v1beta1.ConfigurationState](r, pathBeta1, r.cluster.Namespace, "configurationstates", nil)
	if apierrors.IsForbidden(r.err) {
		r.err = nil
		r.note("ConfigurationStates in namespace %s may not be listed, so it is not known whether speakers hear each other.", r.cluster.Namespace)
	}
	r.cluster.States = stripped(list, stripState)
}

// reservations reads those of all namespaces. Who may not see them learns
// everything else.
func (r *reader) reservations() {
	if r.err != nil {
		return
	}
	list := list[*v1alpha1.IPReservation](r, pathHerald, "", "ipreservations", nil)
	if apierrors.IsForbidden(r.err) {
		r.err = nil
		r.note("IPReservations may not be listed, so what is said here does not count with reserved addresses.")
	}
	r.cluster.Reservations = stripped(list, stripReservation)
}

// memories reads what the controller remembers of Services that are gone. Who
// may not see it learns everything else.
func (r *reader) memories() {
	if r.err != nil {
		return
	}
	c := r.cluster
	data, err := r.get.Get(r.ctx, pathCore+"/namespaces/"+c.Namespace+"/configmaps/"+journal.MemoryName, nil)
	var stored corev1.ConfigMap
	switch {
	case err == nil:
		err = json.Unmarshal(data, &stored)
	case apierrors.IsNotFound(err):
		return // nothing has been remembered so far
	case apierrors.IsForbidden(err):
		r.note("The ConfigMap %s in namespace %s may not be read, so what is said here does not count with addresses that deleted Services get back.", journal.MemoryName, c.Namespace)
		return
	}
	r.fail("ConfigMap "+journal.MemoryName, err)
	// What has ended, or been given back, stays stored until there is something
	// new to remember. The controller does not count with it.
	back := map[lb.ServiceKey]bool{}
	for _, s := range c.Services {
		back[lb.ServiceKey{Namespace: s.Namespace, Name: s.Name}] = len(s.Status.LoadBalancer.Ingress) > 0
	}
	for _, m := range journal.Memos(&stored) {
		if m.Until.After(c.Taken.Time) && !back[m.Key] {
			c.Remembered = append(c.Remembered, Memory{m.Key.Namespace, m.Key.Name, m.Addresses, metav1.NewTime(m.Until)})
		}
	}
	slices.SortFunc(c.Remembered, func(a, b Memory) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
}

// programs finds Herald's Pods and the flags they run with. Who may not see
// Pods learns everything else.
func (r *reader) programs() {
	if r.err != nil {
		return
	}
	c := r.cluster
	params := url.Values{"labelSelector": {labelComponent + " in (" + api.ComponentController + "," + api.ComponentSpeaker + ")"}}
	pods := list[*corev1.Pod](r, pathCore, c.Namespace, "pods", params)
	if apierrors.IsForbidden(r.err) {
		r.err = nil
		r.note("Pods in namespace %s may not be listed, so it is not known where speakers run and with which flags (--lb-class, --ignore-exclude-lb).", c.Namespace)
		return
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
	for _, p := range pods {
		r.program(p)
	}
	if len(c.Programs) == 0 && r.err == nil {
		r.note("No Pod of Herald is in namespace %s (label %s), so it is not known where speakers run and with which flags.", c.Namespace, labelComponent)
	}
}

func (r *reader) program(p *corev1.Pod) {
	c := r.cluster
	component := p.Labels[labelComponent]
	i := slices.IndexFunc(p.Spec.Containers, func(x corev1.Container) bool { return x.Name == component })
	if i < 0 {
		return // somebody else's
	}
	ready := p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(x corev1.PodCondition) bool {
		return x.Type == corev1.PodReady && x.Status == corev1.ConditionTrue
	})
	c.Programs = append(c.Programs, Program{Component: component, Pod: p.Name, Node: p.Spec.NodeName, Ready: ready})
	if class, ok := flag(p.Spec.Containers[i].Args, "--lb-class"); ok {
		c.LBClass = class
	}
	if v, ok := flag(p.Spec.Containers[i].Args, "--ignore-exclude-lb"); ok && v != "false" {
		c.IgnoreExcludeLB = true
	}
}

// flag finds a flag among the arguments of a program.
func flag(args []string, name string) (string, bool) {
	for i, a := range args {
		if value, ok := strings.CutPrefix(a, name+"="); ok {
			return value, true
		}
		if a != name {
			continue
		}
		if i+1 < len(args) && !strings.HasPrefix(args[i+1], "-") {
			return args[i+1], true
		}
		return "", true
	}
	return "", false
}

// list reads all objects of a resource, of one namespace or, if that is empty,
// of all. A kind of Herald's that is not installed has no objects.
func list[T snapshot.Object](r *reader, path, namespace, resource string, params url.Values) []T {
	if r.err != nil {
		return nil
	}
	if namespace != "" {
		path += "/namespaces/" + namespace
	}
	q := url.Values{"limit": {pageSize}}
	maps.Copy(q, params)
	var out []T
	for {
		var page struct {
			Metadata metav1.ListMeta `json:"metadata"`
			Items    []T             `json:"items"`
		}
		data, err := r.get.Get(r.ctx, path+"/"+resource, q)
		if err == nil {
			err = json.Unmarshal(data, &page)
		}
		if group := groupOf(path); apierrors.IsNotFound(err) && group != "" {
			r.note("The kind %s.%s is not installed: install Herald's CustomResourceDefinitions.", resource, group)
			return nil
		}
		if err != nil {
			r.fail(resource, err)
			return nil
		}
		out = append(out, page.Items...)
		if page.Metadata.Continue == "" {
			return out
		}
		q.Set("continue", page.Metadata.Continue)
	}
}

// groupOf is the group of Herald's kinds in a path; empty for other kinds.
func groupOf(path string) string {
	for _, g := range []string{api.GroupMetalLB, api.GroupHerald} {
		if strings.HasPrefix(path, "/apis/"+g+"/") {
			return g
		}
	}
	return ""
}

// fail keeps the first error, with the way out.
func (r *reader) fail(what string, err error) {
	switch {
	case err == nil || r.err != nil:
	case apierrors.IsForbidden(err):
		r.err = fmt.Errorf("read %s: %w (ask for a role that allows get and list on it; or let somebody who may run heraldctl dump, and use --from)", what, err)
	case apierrors.IsUnauthorized(err):
		r.err = fmt.Errorf("read %s: %w (the credentials of the kubeconfig are not accepted: log in again)", what, err)
	case apierrors.IsResourceExpired(err):
		r.err = fmt.Errorf("read %s: %w (the cluster changed too much meanwhile: try again)", what, err)
	default:
		r.err = fmt.Errorf("read %s: %w", what, err)
	}
}
