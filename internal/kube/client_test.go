// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/api/v1beta1"
)

// wire is an API server that notes requests and gives one answer.
type wire struct {
	requests []string // without the body
	bodies   []string
	status   int
	answer   string
}

func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	accept, _, _ := strings.Cut(r.Header.Get("Accept"), ",")
	w.requests = append(w.requests, fmt.Sprintf("%s %s type %q accept %q", r.Method, r.URL, r.Header.Get("Content-Type"), accept))
	w.bodies = append(w.bodies, string(body))
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(w.status)
	_, _ = io.WriteString(rw, w.answer)
}

// testClient returns a client of a server that always gives the answer.
func testClient(t *testing.T, status int, answer string) (*Client, *wire) {
	t.Helper()
	w := &wire{status: status, answer: answer}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	scheme, err := NewScheme()
	if err != nil {
		t.Fatal(err)
	}
	conns, err := newConnections(&rest.Config{Host: server.URL}, scheme)
	if err != nil {
		t.Fatal(err)
	}
	return newClient(conns), w
}

func wantRequest(t *testing.T, w *wire, request string) {
	t.Helper()
	if diff := cmp.Diff([]string{request}, w.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

const (
	jsonType     = `"application/json"`
	protobufType = `"application/vnd.kubernetes.protobuf"`
	mergeType    = `"application/merge-patch+json"`
	typed        = " type %s accept %s"
)

func testStatus() *v1beta1.ServiceL2Status {
	return &v1beta1.ServiceL2Status{ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: "l2-a", UID: "u1", Labels: map[string]string{"old": "label"}}}
}

func TestClientGet(t *testing.T) {
	t.Parallel()
	c, w := testClient(t, http.StatusOK, `{"kind":"Pod","apiVersion":"v1","metadata":{"namespace":"herald","name":"p","uid":"u7"}}`)
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"old": "label"}}}
	if err := c.Get(t.Context(), types.NamespacedName{Namespace: "herald", Name: "p"}, &pod); err != nil {
		t.Fatal(err)
	}
	wantRequest(t, w, "GET /api/v1/namespaces/herald/pods/p"+fmt.Sprintf(typed, `""`, protobufType))
	if diff := cmp.Diff(metav1.ObjectMeta{Namespace: "herald", Name: "p", UID: "u7"}, pod.ObjectMeta); diff != "" {
		t.Errorf("the object is not what the server said (-want +got):\n%s", diff)
	}
}

func TestClientCreate(t *testing.T) {
	t.Parallel()
	c, w := testClient(t, http.StatusCreated, `{"kind":"ServiceL2Status","apiVersion":"metallb.io/v1beta1","metadata":{"namespace":"herald","name":"l2-b","resourceVersion":"5"}}`)
	obj := testStatus()
	obj.Name, obj.GenerateName, obj.UID = "", "l2-", ""
	if err := c.Create(t.Context(), obj); err != nil {
		t.Fatal(err)
	}
	wantRequest(t, w, "POST /apis/metallb.io/v1beta1/namespaces/herald/servicel2statuses"+fmt.Sprintf(typed, jsonType, jsonType))
	for _, part := range []string{`"kind":"ServiceL2Status"`, `"apiVersion":"metallb.io/v1beta1"`, `"generateName":"l2-"`} {
		if !strings.Contains(w.bodies[0], part) {
			t.Errorf("body without %s: %s", part, w.bodies[0])
		}
	}
	if diff := cmp.Diff(metav1.ObjectMeta{Namespace: "herald", Name: "l2-b", ResourceVersion: "5"}, obj.ObjectMeta); diff != "" {
		t.Errorf("the object is not what the server said (-want +got):\n%s", diff)
	}
}

func TestClientPatchStatus(t *testing.T) {
	t.Parallel()
	c, w := testClient(t, http.StatusOK, `{"kind":"ServiceL2Status","apiVersion":"metallb.io/v1beta1","metadata":{"name":"l2-a","resourceVersion":"6"}}`)
	obj := testStatus()
	if err := c.PatchStatus(t.Context(), obj, types.MergePatchType, []byte(`{"status":{}}`)); err != nil {
		t.Fatal(err)
	}
	wantRequest(t, w, "PATCH /apis/metallb.io/v1beta1/namespaces/herald/servicel2statuses/l2-a/status"+fmt.Sprintf(typed, mergeType, jsonType))
	if w.bodies[0] != `{"status":{}}` || obj.ResourceVersion != "6" {
		t.Errorf("body %s, version %s afterwards", w.bodies[0], obj.ResourceVersion)
	}
}

func TestClientDeletesNoOther(t *testing.T) {
	t.Parallel()
	c, w := testClient(t, http.StatusOK, `{"kind":"Status","apiVersion":"v1","status":"Success"}`)
	if err := c.Delete(t.Context(), testStatus()); err != nil {
		t.Fatal(err)
	}
	wantRequest(t, w, "DELETE /apis/metallb.io/v1beta1/namespaces/herald/servicel2statuses/l2-a"+fmt.Sprintf(typed, jsonType, jsonType))
	if !strings.Contains(w.bodies[0], `"preconditions":{"uid":"u1"}`) {
		t.Errorf("body does not name the UID: %s", w.bodies[0])
	}
}

func TestClientDeletesByLabel(t *testing.T) {
	t.Parallel()
	c, w := testClient(t, http.StatusOK, `{"kind":"Status","apiVersion":"v1","status":"Success"}`)
	if err := c.DeleteLabelled(t.Context(), &v1beta1.ServiceL2Status{}, "herald", labels.Set{"metallb.io/node": "n1"}); err != nil {
		t.Fatal(err)
	}
	wantRequest(t, w, "DELETE /apis/metallb.io/v1beta1/namespaces/herald/servicel2statuses?labelSelector=metallb.io%2Fnode%3Dn1"+
		fmt.Sprintf(typed, jsonType, jsonType))
	if err := c.DeleteLabelled(t.Context(), &v1beta1.ServiceL2Status{}, "herald", nil); err == nil || len(w.requests) != 1 {
		t.Errorf("without labels: error %v, %d requests; want an error and no request", err, len(w.requests))
	}
}

func TestClientErrorLeavesTheObject(t *testing.T) {
	t.Parallel()
	c, _ := testClient(t, http.StatusConflict, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409}`)
	obj := testStatus()
	if err := c.PatchStatus(t.Context(), obj, types.MergePatchType, []byte(`{}`)); !apierrors.IsConflict(err) {
		t.Errorf("error %v, want a conflict", err)
	}
	if diff := cmp.Diff(testStatus(), obj); diff != "" {
		t.Errorf("object changed (-want +got):\n%s", diff)
	}
}

func TestEventSink(t *testing.T) {
	t.Parallel()
	c, w := testClient(t, http.StatusOK, `{"kind":"Event","apiVersion":"v1","metadata":{"name":"e","resourceVersion":"3"}}`)
	core, err := c.connections.to(corev1.SchemeGroupVersion)
	if err != nil {
		t.Fatal(err)
	}
	s := &eventSink{client: core, background: func() context.Context { return t.Context() }}
	event := &corev1.Event{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "e"}, Reason: "Done"}
	for _, send := range []func() (*corev1.Event, error){
		func() (*corev1.Event, error) { return s.Create(event) },
		func() (*corev1.Event, error) { return s.Update(event) },
		func() (*corev1.Event, error) { return s.Patch(event, []byte(`{"count":2}`)) },
	} {
		if got, err := send(); err != nil || got.ResourceVersion != "3" {
			t.Errorf("event %v, error %v; want what the server returned", got, err)
		}
	}
	want := []string{
		"POST /api/v1/namespaces/shop/events" + fmt.Sprintf(typed, protobufType, protobufType),
		"PUT /api/v1/namespaces/shop/events/e" + fmt.Sprintf(typed, protobufType, protobufType),
		"PATCH /api/v1/namespaces/shop/events/e" + fmt.Sprintf(typed, `"application/strategic-merge-patch+json"`, protobufType),
	}
	if diff := cmp.Diff(want, w.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	sent, _, err := serializer.NewCodecFactory(c.connections.scheme).UniversalDeserializer().Decode([]byte(w.bodies[0]), nil, nil)
	if e, ok := sent.(*corev1.Event); err != nil || !ok || e.Reason != "Done" || w.bodies[2] != `{"count":2}` {
		t.Errorf("sent %v (error %v) and %s", sent, err, w.bodies[2])
	}
}

// What is watched has its name in URLs written down; what is written gets it
// from the kind. They must agree.
func TestResourceNames(t *testing.T) {
	t.Parallel()
	for _, k := range append(ControllerKinds(), SpeakerKinds("n1", labels.Everything())...) {
		if got := resourceOf(k.gvk); got != k.resource {
			t.Errorf("%s: %s, want %s", k, got, k.resource)
		}
	}
}

func TestConnectionsAreShared(t *testing.T) {
	t.Parallel()
	c, _ := testClient(t, http.StatusOK, "")
	a, _, err := c.connections.toKindOf(&corev1.Pod{})
	if err != nil {
		t.Fatal(err)
	}
	b, _, err := c.connections.toKindOf(&corev1.Event{})
	if err != nil || a != b {
		t.Errorf("two clients for one group and version (error %v)", err)
	}
	if _, _, err := c.connections.toKindOf(&appsv1.Deployment{}); err == nil {
		t.Error("a client for a kind that is not in the scheme")
	}
}

func TestClientUpdate(t *testing.T) {
	t.Parallel()
	c, w := testClient(t, http.StatusOK, `{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"j","namespace":"herald","resourceVersion":"8"},"data":{"a":"b"}}`)
	m := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "herald", Name: "j", ResourceVersion: "7"}, Data: map[string]string{"old": "entry"}}
	if err := c.Update(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	wantRequest(t, w, "PUT /api/v1/namespaces/herald/configmaps/j"+fmt.Sprintf(typed, protobufType, protobufType))
	if diff := cmp.Diff(map[string]string{"a": "b"}, m.Data); diff != "" || m.ResourceVersion != "8" {
		t.Errorf("version %s, data (-want +got):\n%s", m.ResourceVersion, diff)
	}
}

func TestListPresent(t *testing.T) {
	t.Parallel()
	c, w := testClient(t, http.StatusOK, `{"kind":"PartialObjectMetadataList","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"8"},
"items":[{"metadata":{"name":"a","uid":"u1","resourceVersion":"3"}},{"metadata":{"name":"b","uid":"u2","resourceVersion":"7"}}]}`)
	cluster := &Cluster{namespace: "herald", connections: c.connections, client: c}
	kinds := ControllerKinds()
	for _, k := range kinds {
		if k.resource != "services" && k.resource != "ipaddresspools" {
			continue
		}
		got, err := cluster.listPresent(t.Context(), k)
		if err != nil {
			t.Fatal(err)
		}
		want := present{version: "8", versions: map[types.UID]string{"u1": "3", "u2": "7"}}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(present{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", k, diff)
		}
	}
	const as = ` type "" accept "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"`
	if diff := cmp.Diff([]string{
		"GET /api/v1/services?fieldSelector=spec.type%3DLoadBalancer&limit=500" + as,
		"GET /apis/metallb.io/v1beta1/namespaces/herald/ipaddresspools?limit=500" + as,
	}, w.requests); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

// TestReach: any answer of the API server shows that it is there, and none that it
// is not.
func TestReach(t *testing.T) {
	t.Parallel()
	for status, answer := range map[int]string{
		http.StatusOK:        `{"major":"1"}`,
		http.StatusForbidden: `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403}`,
	} {
		client, w := testClient(t, status, answer)
		c := &Cluster{connections: client.connections}
		if err := c.Reach(t.Context()); err != nil || len(w.requests) != 1 || !strings.HasPrefix(w.requests[0], "GET /version ") {
			t.Errorf("status %d: error %v, requests %q", status, err, w.requests)
		}
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	conns, err := newConnections(&rest.Config{Host: gone.URL}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := (&Cluster{connections: conns}).Reach(t.Context()); err == nil {
		t.Error("reached a server that is gone")
	}
}
