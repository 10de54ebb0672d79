// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const (
	churnEvents   = 1000
	churnServices = 50
)

// resets makes random changes of Services, endpoints, nodes, advertisements, communities, timers, other peers, their BFD profiles and
// their Secrets, and counts the sessions that the router has lost meanwhile. The router is told nothing that is not true of one of them:
// no change is of a field that a session depends on.
func (r *routed) resets(ctx context.Context, o Options, _ *cluster) ([]Result, error) {
	if err := wait(ctx, readyLimit, r.bfdUp); err != nil {
		return nil, err
	}
	before, err := r.dropped(ctx)
	if err != nil {
		return nil, err
	}
	ch := churning{routed: r, namespace: o.Namespace, random: rand.New(rand.NewPCG(1, 2))}
	begun := time.Now()
	for range churnEvents {
		if err := ch.event(ctx); err != nil && !apierrors.IsConflict(err) {
			return nil, fmt.Errorf("change something: %w", err)
		}
	}
	o.say("%d changes in %.1f s", churnEvents, time.Since(begun).Seconds())
	if err := sleep(ctx, afterward); err != nil {
		return nil, err
	}
	after, err := r.dropped(ctx)
	if err != nil {
		return nil, err
	}
	if after > before {
		r.sayWhy(ctx, o)
	}
	// What was changed is as it was, for those who come after; and the routes must still be able to arrive.
	if err := errors.Join(ch.restore(ctx), r.both(ctx)); err != nil {
		return nil, err
	}
	return []Result{{"bgp_session_resets_under_churn", float64(after - before), "sessions"}}, nil
}

// churning makes changes.
type churning struct {
	*routed
	namespace string
	random    *rand.Rand
}

func (c *churning) event(ctx context.Context) error {
	kinds := []func(context.Context) error{c.service, c.service, c.endpoints, c.endpoints, c.endpoints, c.node, c.advertisement, c.advertisement,
		c.community, c.timers, c.otherPeer, c.otherProfile, c.secret}
	return kinds[c.random.IntN(len(kinds))](ctx)
}

// object returns the path of an object of Herald's namespace.
func (c *churning) object(version, kind, name string) string {
	return fmt.Sprintf("/apis/metallb.io/%s/namespaces/%s/%s/%s", version, c.namespace, kind, name)
}

// set makes or changes an object of a kind that client-go does not know.
func (c *churning) set(ctx context.Context, version, plural, kind, name, spec string) error {
	body := fmt.Sprintf(`{"apiVersion":"metallb.io/%s","kind":%q,"metadata":{"name":%q},"spec":%s}`, version, kind, name, spec)
	return c.kube.CoreV1().RESTClient().Patch(types.ApplyPatchType).AbsPath(c.object(version, plural, name)).
		Param("fieldManager", "churn").Param("force", "true").Body([]byte(body)).Do(ctx).Error()
}

func (c *churning) remove(ctx context.Context, version, plural, name string) error {
	return gone(c.kube.CoreV1().RESTClient().Verb(http.MethodDelete).AbsPath(c.object(version, plural, name)).Do(ctx).Error())
}

func gone(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

func (c *churning) service(ctx context.Context) error {
	name := fmt.Sprintf("churn-%d", c.random.IntN(churnServices))
	services := c.kube.CoreV1().Services("default")
	switch c.random.IntN(3) {
	case 0:
		err := services.Delete(ctx, name, metav1.DeleteOptions{})
		return errors.Join(gone(err), gone(c.kube.DiscoveryV1().EndpointSlices("default").Delete(ctx, name, metav1.DeleteOptions{})))
	case 1:
		policy := []string{"Local", "Cluster"}[c.random.IntN(2)]
		patch := fmt.Sprintf(`{"metadata":{"labels":{"tier":"t%d"}},"spec":{"externalTrafficPolicy":%q}}`, c.random.IntN(3), policy)
		_, err := services.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		return gone(err)
	}
	_, err := services.Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func (c *churning) endpoints(ctx context.Context) error {
	name := fmt.Sprintf("churn-%d", c.random.IntN(churnServices))
	if c.random.IntN(2) == 0 {
		return gone(c.kube.DiscoveryV1().EndpointSlices("default").Delete(ctx, name, metav1.DeleteOptions{}))
	}
	if err := c.endpoint(ctx, name); !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func (c *churning) node(ctx context.Context) error {
	labels := fmt.Sprintf(`"rack":"r%d"`, c.random.IntN(3))
	if c.random.IntN(3) == 0 {
		labels += `,"node.kubernetes.io/exclude-from-external-load-balancers":` + []string{`""`, "null"}[c.random.IntN(2)]
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%s}},"spec":{"unschedulable":%t}}`, labels, c.random.IntN(2) == 0)
	_, err := c.kube.CoreV1().Nodes().Patch(ctx, fmt.Sprintf("node%d", 1+c.random.IntN(2)), types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

func (c *churning) advertisement(ctx context.Context) error {
	n := c.random.IntN
	if n(4) == 0 {
		return c.remove(ctx, "v1beta1", "bgpadvertisements", "more")
	}
	spec := fmt.Sprintf(`{"communities":["64512:%d","large:64512:1:%d"],"aggregationLength":%d`, n(9), n(9), 28+n(5))
	if n(3) == 0 {
		spec += fmt.Sprintf(`,"nodeSelectors":[{"matchLabels":{"rack":"r%d"}}]`, n(3))
	}
	if n(3) == 0 {
		spec += fmt.Sprintf(`,"peers":["tor"],"localPref":%d`, 100+n(3))
	}
	return c.set(ctx, "v1beta1", "bgpadvertisements", "BGPAdvertisement", []string{"load", "more"}[n(2)], spec+"}")
}

func (c *churning) community(ctx context.Context) error {
	if c.random.IntN(3) == 0 {
		return c.remove(ctx, "v1beta1", "communities", "churn")
	}
	return c.set(ctx, "v1beta1", "communities", "Community", "churn", fmt.Sprintf(`{"communities":[{"name":"gold","value":"64512:%d"}]}`, c.random.IntN(99)))
}

// timers are what may change of a peer while its session is up.
func (c *churning) timers(ctx context.Context) error {
	hold := 30 + c.random.IntN(200)
	patch := fmt.Sprintf(`{"spec":{"holdTime":"%ds","keepaliveTime":"%ds","connectTime":"%ds"}}`, hold, 1+c.random.IntN(hold/3), 1+c.random.IntN(60))
	return c.kube.CoreV1().RESTClient().Patch(types.MergePatchType).AbsPath(c.object("v1beta2", "bgppeers", "tor")).Body([]byte(patch)).Do(ctx).Error()
}

// otherPeer is one whose router does not exist, or is the same on a port where nothing is.
func (c *churning) otherPeer(ctx context.Context) error {
	n := c.random.IntN
	name := fmt.Sprintf("churn-%d", n(3))
	if n(4) == 0 {
		return c.remove(ctx, "v1beta2", "bgppeers", name)
	}
	secret := []string{"", `,"passwordSecret":{"name":"churn"}`, `,"bfdProfile":"churn"`, `,"bfdProfile":"unknown"`}[n(4)]
	return c.set(ctx, "v1beta2", "bgppeers", "BGPPeer", name, fmt.Sprintf(`{"myASN":%d,"peerASN":64600,"peerAddress":%q,"peerPort":%d,"routerID":"10.9.9.%d"%s}`,
		64000+n(9), []string{"192.168.2.200", "192.168.2.250"}[n(2)], 1000+n(9), 1+n(200), secret))
}

func (c *churning) otherProfile(ctx context.Context) error {
	if c.random.IntN(4) == 0 {
		return c.remove(ctx, "v1beta1", "bfdprofiles", "churn")
	}
	return c.set(ctx, "v1beta1", "bfdprofiles", "BFDProfile", "churn", fmt.Sprintf(`{"transmitInterval":%d}`, 100+c.random.IntN(900)))
}

func (c *churning) secret(ctx context.Context) error {
	secrets := c.kube.CoreV1().Secrets(c.namespace)
	if err := secrets.Delete(ctx, "churn", metav1.DeleteOptions{}); gone(err) != nil || c.random.IntN(3) == 0 {
		return gone(err)
	}
	_, err := secrets.Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "churn"}, Type: corev1.SecretTypeBasicAuth,
		StringData: map[string]string{corev1.BasicAuthUsernameKey: "", corev1.BasicAuthPasswordKey: fmt.Sprint(c.random.IntN(99))},
	}, metav1.CreateOptions{})
	return err
}

// restore undoes what would disturb other measurements.
func (c *churning) restore(ctx context.Context) error {
	var errs []error
	for i := range 2 {
		patch := []byte(`{"metadata":{"labels":{"node.kubernetes.io/exclude-from-external-load-balancers":null}},"spec":{"unschedulable":false}}`)
		_, err := c.kube.CoreV1().Nodes().Patch(ctx, fmt.Sprintf("node%d", 1+i), types.MergePatchType, patch, metav1.PatchOptions{})
		errs = append(errs, err)
	}
	for i := range 3 {
		errs = append(errs, c.remove(ctx, "v1beta2", "bgppeers", fmt.Sprintf("churn-%d", i)))
	}
	errs = append(errs, c.remove(ctx, "v1beta1", "bgpadvertisements", "more"), c.set(ctx, "v1beta1", "bgpadvertisements", "BGPAdvertisement", "load", "{}"))
	return errors.Join(errs...)
}

// sayWhy shows what router and speakers say about sessions that were lost.
func (r *routed) sayWhy(ctx context.Context, o Options) {
	if out, err := r.Exec(ctx, bgpRouter, "vtysh", "-N", bgpRouter, "-c", "show bgp neighbors"); err == nil {
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "Last reset") || strings.HasPrefix(line, "BGP neighbor is") {
				o.say("router: %s", strings.TrimSpace(line))
			}
		}
	}
	logs, err := filepath.Glob(filepath.Join(r.LogDir(), "pods", o.Namespace+"_*speaker*", "speaker", "*.log"))
	if err != nil {
		return
	}
	for _, name := range logs {
		text, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "BGP session is") || strings.Contains(line, "BFD session changed") {
				o.say("speaker: %s", strings.TrimSpace(line))
			}
		}
	}
}

// dropped is how many sessions the router has lost since it started.
func (r *routed) dropped(ctx context.Context) (int, error) {
	out, err := r.Exec(ctx, bgpRouter, "vtysh", "-N", bgpRouter, "-c", "show bgp neighbors")
	if err != nil {
		return 0, err
	}
	total := 0
	for line := range strings.Lines(string(out)) {
		var up, down int
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "Connections established %d; dropped %d", &up, &down); err == nil {
			total += down
		}
	}
	return total, nil
}
