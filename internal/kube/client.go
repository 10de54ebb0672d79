// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"net/http"
	"reflect"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/heraldlb/herald/internal/kube/snapshot"
)

// Client talks to the API server directly; nothing is cached. It knows the
// kinds of NewScheme and no others. The clients that client-go and
// controller-runtime offer know all of Kubernetes, which every node would keep
// in memory.
type Client struct {
	connections *connections
	params      runtime.ParameterCodec
}

func newClient(c *connections) *Client {
	return &Client{connections: c, params: runtime.NewParameterCodec(c.scheme)}
}

// Get reads the object of that name into obj.
func (c *Client) Get(ctx context.Context, name types.NamespacedName, obj snapshot.Object) error {
	rc, resource, err := c.connections.toKindOf(obj)
	if err != nil {
		return err
	}
	return answer(obj, rc.Get().NamespaceIfScoped(name.Namespace, name.Namespace != "").Resource(resource).Name(name.Name).Do(ctx))
}

// Create makes obj and replaces it with what the server says of it.
func (c *Client) Create(ctx context.Context, obj snapshot.Object) error {
	rc, resource, err := c.connections.toKindOf(obj)
	if err != nil {
		return err
	}
	return answer(obj, rc.Post().NamespaceIfScoped(obj.GetNamespace(), obj.GetNamespace() != "").Resource(resource).Body(obj).Do(ctx))
}

// Update replaces the object with obj, if it is still of the version that obj
// has, and obj with the result.
func (c *Client) Update(ctx context.Context, obj snapshot.Object) error {
	rc, resource, err := c.connections.toKindOf(obj)
	if err != nil {
		return err
	}
	return answer(obj, rc.Put().NamespaceIfScoped(obj.GetNamespace(), obj.GetNamespace() != "").Resource(resource).Name(obj.GetName()).Body(obj).Do(ctx))
}

// PatchStatus patches the status of obj and replaces obj with the result.
func (c *Client) PatchStatus(ctx context.Context, obj snapshot.Object, kind types.PatchType, patch []byte) error {
	rc, resource, err := c.connections.toKindOf(obj)
	if err != nil {
		return err
	}
	return answer(obj, rc.Patch(kind).NamespaceIfScoped(obj.GetNamespace(), obj.GetNamespace() != "").Resource(resource).
		Name(obj.GetName()).SubResource("status").Body(patch).Do(ctx))
}

// Delete deletes obj, and no other of the same name: the UIDs must be equal.
func (c *Client) Delete(ctx context.Context, obj snapshot.Object) error {
	rc, resource, err := c.connections.toKindOf(obj)
	if err != nil {
		return err
	}
	return rc.Delete().NamespaceIfScoped(obj.GetNamespace(), obj.GetNamespace() != "").Resource(resource).Name(obj.GetName()).
		Body(metav1.NewPreconditionDeleteOptions(string(obj.GetUID()))).Do(ctx).Error()
}

// DeleteLabelled deletes all objects of the kind of like in the namespace that
// carry the labels. Without labels it would delete all, and refuses.
func (c *Client) DeleteLabelled(ctx context.Context, like snapshot.Object, namespace string, set labels.Set) error {
	if len(set) == 0 {
		return fmt.Errorf("delete %T objects by label: no label given", like)
	}
	rc, resource, err := c.connections.toKindOf(like)
	if err != nil {
		return err
	}
	return rc.Delete().Namespace(namespace).Resource(resource).
		VersionedParams(&metav1.ListOptions{LabelSelector: set.AsSelector().String()}, c.params).
		Body(&metav1.DeleteOptions{}).Do(ctx).Error()
}

// answer replaces obj with what the server returned. Decoding straight into obj
// would keep whatever is in it and not in the answer.
func answer(obj snapshot.Object, r rest.Result) error {
	fresh := reflect.New(reflect.TypeOf(obj).Elem())
	if err := r.Into(fresh.Interface().(snapshot.Object)); err != nil {
		return err
	}
	reflect.ValueOf(obj).Elem().Set(fresh.Elem())
	return nil
}

// connections are the REST clients of a program, one per group and version,
// over one pool of HTTP connections.
type connections struct {
	config *rest.Config
	http   *http.Client
	scheme *runtime.Scheme
	codecs serializer.CodecFactory

	mu      sync.Mutex // guards clients
	clients map[schema.GroupVersion]rest.Interface
}

func newConnections(cfg *rest.Config, scheme *runtime.Scheme) (*connections, error) {
	httpClient, err := rest.HTTPClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("make the HTTP client: %w", err)
	}
	return &connections{
		config: cfg, http: httpClient, scheme: scheme, codecs: serializer.NewCodecFactory(scheme),
		clients: map[schema.GroupVersion]rest.Interface{},
	}, nil
}

// toKindOf returns the client for the kind of obj, and its name in URLs.
func (c *connections) toKindOf(obj runtime.Object) (rest.Interface, string, error) {
	gvks, _, err := c.scheme.ObjectKinds(obj)
	if err != nil {
		return nil, "", err
	}
	rc, err := c.to(gvks[0].GroupVersion())
	return rc, resourceOf(gvks[0]), err
}

// resourceOf is the name of a kind in URLs. Kubernetes leaves it to each kind,
// but all of ours follow the rules of English that apimachinery knows.
func resourceOf(gvk schema.GroupVersionKind) string {
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	return plural.Resource
}

// to returns the client for a group and version.
func (c *connections) to(gv schema.GroupVersion) (rest.Interface, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if rc := c.clients[gv]; rc != nil {
		return rc, nil
	}
	cfg := rest.CopyConfig(c.config)
	cfg.GroupVersion = &gv
	cfg.APIPath = "/apis"
	if gv.Group == corev1.GroupName {
		cfg.APIPath = "/api"
	}
	if cfg.ContentType == "" && (gv == corev1.SchemeGroupVersion || gv == discoveryv1.SchemeGroupVersion) {
		// Smaller and faster; custom resources exist as JSON only.
		cfg.ContentType = runtime.ContentTypeProtobuf
	}
	cfg.NegotiatedSerializer = c.codecs.WithoutConversion()
	rc, err := rest.RESTClientForConfigAndClient(cfg, c.http)
	if err != nil {
		return nil, fmt.Errorf("make the client for %s: %w", gv, err)
	}
	c.clients[gv] = rc
	return rc, nil
}
