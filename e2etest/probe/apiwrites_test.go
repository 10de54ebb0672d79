// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const metricsText = `# HELP apiserver_request_total Counter of apiserver requests
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="services",scope="resource",subresource="status",verb="PUT",version="v1"} 7
apiserver_request_total{code="409",component="apiserver",dry_run="",group="",resource="services",scope="resource",subresource="status",verb="PUT",version="v1"} 1
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="services",scope="cluster",subresource="",verb="LIST",version="v1"} 9
apiserver_request_total{code="201",component="apiserver",dry_run="",group="metallb.io",resource="servicel2statuses",scope="resource",subresource="",verb="POST",version="v1beta1"} 2
apiserver_request_total{code="200",component="apiserver",dry_run="",group="coordination.k8s.io",resource="leases",scope="resource",subresource="",verb="PUT",version="v1"} 99
apiserver_request_total{code="200",component="apiserver",dry_run="",group="",resource="nodes",scope="resource",subresource="status",verb="PATCH",version="v1"} 5
apiserver_request_duration_seconds_count{group="",resource="services",verb="PUT"} 7
`

func TestWrites(t *testing.T) {
	t.Parallel()
	got, err := Writes(strings.NewReader(metricsText))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]float64{"PUT services/status": 8, "POST metallb.io/servicel2statuses": 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("writes (-want +got):\n%s", diff)
	}
	n, what := NewWrites(map[string]float64{"PUT services/status": 6}, got)
	if diff := cmp.Diff([]string{"2 x POST metallb.io/servicel2statuses", "2 x PUT services/status"}, what); n != 4 || diff != "" {
		t.Errorf("%g new writes, want 4 (-want +got):\n%s", n, diff)
	}
}
