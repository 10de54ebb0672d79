// SPDX-License-Identifier: Apache-2.0

package ctl_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/ctl"
)

// secrets is a cluster with "hunter2" in every place where one may be, as far
// as heraldctl reads the object at all.
const secrets = `
apiVersion: v1
kind: Secret
metadata: {name: bgp, namespace: metallb-system}
stringData: {password: hunter2}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata:
  name: router
  namespace: metallb-system
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{"spec":{"password":"hunter2"}}'}
  managedFields: [{manager: kubectl, operation: Update, fieldsV1: {"f:hunter2": {}}}]
spec: {myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1, password: hunter2}
---
apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {name: other, namespace: metallb-system}
spec: {myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.2, passwordSecret: {name: bgp}}
---
apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {name: main, namespace: metallb-system, annotations: {note: hunter2}}
spec: {addresses: [192.0.2.0/28]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop, annotations: {note: hunter2, metallb.io/address-pool: main}}
spec: {type: LoadBalancer, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{name: hunter2, port: 80}]}
status: {loadBalancer: {ingress: [{ip: 192.0.2.3}]}, conditions: [{type: example.com/Other, status: "True", reason: R, message: hunter2}]}
---
apiVersion: v1
kind: Node
metadata: {name: node1, annotations: {note: hunter2}}
spec: {providerID: hunter2}
---
apiVersion: v1
kind: Namespace
metadata: {name: shop, annotations: {note: hunter2}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: herald-remembered, namespace: metallb-system, annotations: {note: hunter2}}
data:
  holder: hunter2
  writes: hunter2
  remembered: |
    2026-03-01T12:05:00Z shop/mail 192.0.2.9,2001:db8::9
    2026-03-01T12:06:00Z bank/vault 192.0.2.8
    2026-03-01T11:59:00Z shop/ended 192.0.2.7
    2026-03-01T12:06:00Z shop/web 192.0.2.4
    hunter2
---
apiVersion: v1
kind: Pod
metadata: {name: herald-controller-0, namespace: metallb-system, labels: {app.kubernetes.io/component: controller}}
spec:
  containers: [{name: controller, args: [--lb-class=, --token=hunter2], env: [{name: TOKEN, value: hunter2}]}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}, annotations: {note: hunter2}}
addressType: IPv4
endpoints: [{addresses: [10.244.0.2], nodeName: node1, targetRef: {kind: Pod, name: hunter2}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: hunter2, namespace: shop, labels: {kubernetes.io/service-name: internal}}
addressType: IPv4
endpoints: [{addresses: [10.244.0.3], nodeName: node1}]
`

func TestDumpHasNoSecret(t *testing.T) {
	t.Parallel()
	server := newFakeServer(t, secrets)
	c, err := ctl.Read(t.Context(), server, ctl.ReadOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"yaml", "json"} {
		var b bytes.Buffer
		if err := ctl.Write(&b, c, format); err != nil {
			t.Fatal(err)
		}
		if at := strings.Index(b.String(), "hunter2"); at >= 0 {
			t.Errorf("the dump in %s has the secret: ...%s", format, b.String()[max(0, at-200):at+7])
		}
		if diff := cmp.Diff(c, reload(t, c, format), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("a dump in %s loses something (-live +loaded):\n%s", format, diff)
		}
	}
	var kept []string
	for _, m := range c.Remembered {
		kept = append(kept, fmt.Sprintf("%s/%s %v", m.Namespace, m.Name, m.Addresses))
	}
	if diff := cmp.Diff([]string{"bank/vault [192.0.2.8]", "shop/mail [192.0.2.9 2001:db8::9]"}, kept); diff != "" {
		t.Errorf("remembered (-want +got):\n%s", diff)
	}
	if c.Peers[0].Name != "other" || c.Peers[0].Spec.Password != "" || c.Peers[1].Spec.Password == "" {
		t.Errorf("whether a peer has a password must stay visible: %+v", c.Peers)
	}
	for _, path := range server.requests {
		if strings.Contains(path, "secrets") {
			t.Errorf("Secrets are read: %s", path)
		}
	}
}

func TestReadFindsNamespace(t *testing.T) {
	t.Parallel()
	pool := func(ns, name string) string {
		return "---\napiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: " + name + ", namespace: " + ns + "}\nspec: {addresses: [192.0.2.0/28]}\n"
	}
	for _, tc := range []struct {
		name, objects, ask string
		want, note         string
		pools              int
	}{
		{"the only one", pool("lb", "a") + pool("lb", "b") + pool("lb", "c"), "", "lb", "", 3},
		{"none", "", "", "metallb-system", "no IPAddressPool in any namespace", 0},
		{"two", pool("a", "p1") + pool("metallb-system", "p2"), "", "metallb-system", "in the namespaces a, metallb-system", 1},
		{"named", pool("a", "p1") + pool("b", "p2"), "b", "b", "", 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c, err := ctl.Read(t.Context(), newFakeServer(t, tc.objects), ctl.ReadOptions{Namespace: tc.ask, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			if c.Namespace != tc.want || len(c.Pools) != tc.pools {
				t.Errorf("namespace %s with %d pools, want %s with %d", c.Namespace, len(c.Pools), tc.want, tc.pools)
			}
			notes := strings.Join(c.Notes, "\n")
			if noted := strings.Contains(notes, "is taken for Herald's namespace"); noted != (tc.note != "") || !strings.Contains(notes, tc.note) {
				t.Errorf("notes are %q, want one with %q", c.Notes, tc.note)
			}
		})
	}
}

func TestReadErrors(t *testing.T) {
	t.Parallel()
	resource := func(name string) schema.GroupResource { return schema.GroupResource{Resource: name} }
	for _, tc := range []struct {
		name, resource string
		err            error
		want, note     string // of the error, or of a note
	}{
		{"forbidden", "services", apierrors.NewForbidden(resource("services"), "", nil), "read services: ", ""},
		{"forbidden, with the way out", "nodes", apierrors.NewForbidden(resource("nodes"), "", nil), "ask for a role that allows get and list", ""},
		{"logged out", "ipaddresspools", apierrors.NewUnauthorized("no"), "log in again", ""},
		{"broken", "endpointslices", errors.New("connection refused"), "read endpointslices: connection refused", ""},
		{"core kind missing", "nodes", apierrors.NewNotFound(resource("nodes"), ""), "read nodes: ", ""},
		{"too slow", "services", apierrors.NewResourceExpired("gone"), "try again", ""},
		{"Pods forbidden", "pods", apierrors.NewForbidden(resource("pods"), "", nil), "", "may not be listed"},
		{"reservations forbidden", "ipreservations", apierrors.NewForbidden(resource("ipreservations"), "", nil), "", "does not count with reserved addresses"},
		{"states forbidden", "configurationstates", apierrors.NewForbidden(resource("configurationstates"), "", nil), "", "not known whether speakers hear each other"},
		{"memory forbidden", "configmaps", apierrors.NewForbidden(resource("configmaps"), "", nil), "", "does not count with addresses that deleted Services get back"},
		{"memory broken", "configmaps", errors.New("connection refused"), "read ConfigMap herald-remembered: connection refused", ""},
		{"reservations not installed", "ipreservations", apierrors.NewNotFound(resource("ipreservations"), ""), "", "ipreservations.heraldlb.io is not installed"},
		{"kind not installed", "bfdprofiles", apierrors.NewNotFound(resource("bfdprofiles"), ""), "", "bfdprofiles.metallb.io is not installed"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := newFakeServer(t, secrets)
			server.errors[tc.resource] = tc.err
			c, err := ctl.Read(t.Context(), server, ctl.ReadOptions{Now: now})
			switch {
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || !errors.Is(err, tc.err)):
				t.Errorf("error %v, want one with %q", err, tc.want)
			case tc.want == "" && err != nil:
				t.Errorf("error %v, want only a note", err)
			case tc.note != "" && !strings.Contains(strings.Join(c.Notes, "\n"), tc.note):
				t.Errorf("notes %q, want one with %q", c.Notes, tc.note)
			}
		})
	}
}

func TestReadOneMore(t *testing.T) {
	t.Parallel()
	const plain = "apiVersion: v1\nkind: Service\nmetadata: {name: db, namespace: shop}\nspec: {type: ClusterIP}\n"
	for _, also := range []lb.ServiceKey{{Namespace: "shop", Name: "db"}, {Namespace: "shop", Name: "nothing"}} {
		c, err := ctl.Read(t.Context(), newFakeServer(t, plain), ctl.ReadOptions{Also: also, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		err = ctl.Look(c).Explain(&b, also)
		if also.Name == "db" && (err != nil || !strings.HasPrefix(b.String(), "Service shop/db is of type ClusterIP: ")) {
			t.Errorf("%v, %q", err, b.String())
		}
		if also.Name == "nothing" && (err == nil || !strings.Contains(err.Error(), "there is no Service shop/nothing")) {
			t.Errorf("error %v, want that there is no such Service", err)
		}
	}
}

func TestReadOptionsWin(t *testing.T) {
	t.Parallel()
	const pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: lb, labels: {app.kubernetes.io/component: speaker}}\n" +
		"spec: {containers: [{name: speaker, args: [--lb-class, pods, --ignore-exclude-lb]}]}\n"
	class, ignore := "flag", false
	for _, tc := range []struct {
		opt    ctl.ReadOptions
		class  string
		ignore bool
	}{
		{ctl.ReadOptions{}, "pods", true},
		{ctl.ReadOptions{LBClass: &class, IgnoreExcludeLB: &ignore}, "flag", false},
	} {
		tc.opt.Namespace = "lb"
		c, err := ctl.Read(t.Context(), newFakeServer(t, pod), tc.opt)
		if err != nil {
			t.Fatal(err)
		}
		if c.LBClass != tc.class || c.IgnoreExcludeLB != tc.ignore {
			t.Errorf("class %q, ignore %t; want %q, %t", c.LBClass, c.IgnoreExcludeLB, tc.class, tc.ignore)
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                             "the dump has format \"\"",
		"format: heraldlb.io/dump/v99": "this heraldctl reads",
		"kind: List\nitems: []":        "make it with heraldctl dump",
		"\tnonsense: [":                "this is no dump",
	} {
		if _, err := ctl.Load(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Load(%q): %v, want an error with %q", text, err, want)
		}
	}
}

// The real client against a server of our own: paths, parameters, and that the
// server's no is understood.
func TestConnect(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RequestURI() {
		case "/api/v1/services?fieldSelector=spec.type%3DLoadBalancer&limit=500":
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{"kind":"ServiceList","items":[]}`))
		case "/apis/metallb.io/v1beta1/ipaddresspools?limit=500":
			http.Error(w, "404 page not found", http.StatusNotFound)
		default:
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":"endpointslices is forbidden: no","reason":"Forbidden","code":403}`))
		}
	}))
	t.Cleanup(server.Close)
	get, err := ctl.Connect(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = ctl.Read(t.Context(), get, ctl.ReadOptions{Now: now})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "read endpointslices: endpointslices is forbidden: no") {
		t.Errorf("error %v, want that the endpoints are forbidden", err)
	}
}
