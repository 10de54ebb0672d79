// SPDX-License-Identifier: Apache-2.0

package telemetry

import (
	"errors"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestHealth(t *testing.T) {
	t.Parallel()
	var caches, plan error
	h := Health(Check{"caches", func() error { return caches }}, Check{"plan", func() error { return plan }})
	check := func(path string, status int, body string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != status {
			t.Errorf("%s: status %d, want %d", path, w.Code, status)
		}
		if diff := cmp.Diff(body, w.Body.String()); diff != "" {
			t.Errorf("%s: body (-want +got):\n%s", path, diff)
		}
	}
	caches, plan = errors.New("waiting for the first list of Service"), errors.New("there is no plan yet")
	check("/healthz", 200, "ok")
	check("/readyz", 500, "caches: waiting for the first list of Service\nplan: there is no plan yet\n\n")
	caches = nil
	check("/readyz", 500, "plan: there is no plan yet\n\n")
	plan = nil
	check("/readyz", 200, "ok")
	check("/", 404, "404 page not found\n")
}
