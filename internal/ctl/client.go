// SPDX-License-Identifier: Apache-2.0

package ctl

import (
	"cmp"
	"context"
	"fmt"
	"net/url"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
)

// Connect returns a Getter, and Patcher, for the API server of cfg.
func Connect(cfg *rest.Config) (Patcher, error) {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, corev1.SchemeGroupVersion) // for the server's errors
	cfg = rest.CopyConfig(cfg)
	cfg.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	cfg.AcceptContentTypes, cfg.ContentType = "application/json", "application/json"
	cfg.WarningHandler = rest.NoWarnings{}
	cfg.QPS = -1 // a dozen requests, one after the other
	cfg.UserAgent = cmp.Or(cfg.UserAgent, "heraldctl")
	c, err := rest.UnversionedRESTClientFor(cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", cfg.Host, err)
	}
	return client{c}, nil
}

type client struct{ rest *rest.RESTClient }

// Get implements Getter.
func (c client) Get(ctx context.Context, path string, params url.Values) ([]byte, error) {
	req := c.rest.Get().AbsPath(path)
	for name, values := range params {
		for _, v := range values {
			req.Param(name, v)
		}
	}
	res := req.Do(ctx)
	if err := res.Error(); err != nil { // unlike DoRaw, it says what the server said
		return nil, err
	}
	return res.Raw()
}

// Patch implements Patcher.
func (c client) Patch(ctx context.Context, path string, patch []byte) error {
	return c.rest.Patch(types.MergePatchType).AbsPath(path).Body(patch).Do(ctx).Error()
}
