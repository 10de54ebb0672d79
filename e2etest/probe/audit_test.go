// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRequests(t *testing.T) {
	t.Parallel()
	const log = `{"auditID":"1","requestURI":"/api/v1/services","verb":"list","user":{"username":"early"},"requestReceivedTimestamp":"2026-01-01T00:00:00.900000Z"}
{"auditID":"2","stage":"ResponseStarted","requestURI":"/api/v1/services?watch=true","verb":"watch","user":{"username":"s"},"requestReceivedTimestamp":"2026-01-01T00:00:01.500000Z"}
{"auditID":"2","stage":"ResponseComplete","requestURI":"/api/v1/services?watch=true","verb":"watch","user":{"username":"s"},"requestReceivedTimestamp":"2026-01-01T00:00:01.500000Z"}
{"auditID":"3","requestURI":"/apis/coordination.k8s.io/v1/namespaces/x/leases/herald-controller","verb":"update","user":{"username":"c"},"requestReceivedTimestamp":"2026-01-01T00:00:01.600000Z"}
{"auditID":"4","requestURI":"/api/v1/namespaces/default/events","verb":"create","user":{"username":"s"},"requestReceivedTimestamp":"2026-01-01T00:00:02.000000Z"}
{"auditID":"5","requestURI":"/api/v1/namespaces/default/events","verb":"create","user":{"username":"late"},"requestReceivedTimestamp":"2026-01-01T00:00:02.000001Z"}
`
	begin := time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC)
	got, err := Requests(strings.NewReader(log), begin, begin.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, r := range got {
		words = append(words, r.String())
	}
	want := []string{"watch /api/v1/services?watch=true by s", "create /api/v1/namespaces/default/events by s"}
	if diff := cmp.Diff(want, words); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	if _, err := Requests(strings.NewReader("no JSON\n"), begin, begin); err == nil {
		t.Error("want an error for what is no audit log")
	}
}
