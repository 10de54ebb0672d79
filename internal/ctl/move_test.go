// SPDX-License-Identifier: Apache-2.0

package ctl_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/heraldlb/herald/internal/ctl"
)

// mover is an API server whose speakers grant a wish a little later.
type mover struct {
	owner   string
	after   time.Duration // until a wish is granted; 0: never
	refuse  error
	patches []string
	wished  time.Time
	to      string
}

func (m *mover) Patch(_ context.Context, path string, patch []byte) error {
	if m.refuse != nil {
		return m.refuse
	}
	m.patches = append(m.patches, path+" "+string(patch))
	var p struct {
		Metadata struct {
			Annotations map[string]*string `json:"annotations"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(patch, &p); err != nil {
		return err
	}
	if wish := p.Metadata.Annotations["heraldlb.io/l2-move-to"]; wish != nil {
		m.to, _, _ = strings.Cut(*wish, " ")
		m.wished = time.Now()
	}
	return nil
}

func (m *mover) Get(_ context.Context, path string, params url.Values) ([]byte, error) {
	if path != "/apis/metallb.io/v1beta1/namespaces/lb/servicel2statuses" || !strings.Contains(params.Get("labelSelector"), "metallb.io/service-name=web") {
		return nil, errors.New("asked for " + path + " with " + params.Encode())
	}
	if m.to != "" && m.after > 0 && time.Since(m.wished) >= m.after {
		m.owner = m.to
	}
	status := map[string]any{"node": m.owner, "serviceName": "web", "serviceNamespace": "shop"}
	item := map[string]any{"metadata": map[string]any{"name": "x", "namespace": "lb"}, "status": status}
	return json.Marshal(map[string]any{"metadata": map[string]any{}, "items": []any{item}})
}

func TestCarry(t *testing.T) {
	t.Parallel()
	move := ctl.Move{Service: key("shop/web"), From: "n1", To: "n2"}
	wish := `/api/v1/namespaces/shop/services/web {"metadata":{"annotations":{"heraldlb.io/l2-move-to":"n2 2026-03-01T12:00:00Z"}}}`
	end := `/api/v1/namespaces/shop/services/web {"metadata":{"annotations":{"heraldlb.io/l2-move-to":null}}}`
	for name, tc := range map[string]struct {
		api     mover
		err     string
		patches []string
	}{
		"granted":     {api: mover{owner: "n1", after: time.Second}, patches: []string{wish, end}},
		"not granted": {api: mover{owner: "n1"}, err: `has not moved to node "n2" in 15s: node n1 reports`, patches: []string{wish, end}},
		"not allowed": {
			api: mover{refuse: apierrors.NewForbidden(schema.GroupResource{Resource: "services"}, "web", nil)},
			err: "ask for a role that allows to patch Services",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				err := ctl.Carry(t.Context(), &tc.api, "lb", move, now)
				switch {
				case tc.err == "" && err != nil:
					t.Error(err)
				case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
					t.Errorf("error %v, want one with %q", err, tc.err)
				}
				if diff := cmp.Diff(tc.patches, tc.api.patches); diff != "" {
					t.Errorf("patches (-want +got):\n%s", diff)
				}
			})
		})
	}
}
