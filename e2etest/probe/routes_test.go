// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestRoutes(t *testing.T) {
	t.Parallel()
	script := `
echo 'local 10.0.0.1 dev lo'
echo '198.18.0.2 nhid 14 via 192.168.2.11 dev eth0 proto bgp metric 20 '
echo 'Deleted 198.18.0.2 nhid 14 via 192.168.2.11 dev eth0 proto bgp metric 20 '
echo '198.18.1.0/24 nhid 14 via 192.168.2.11 dev eth0 '
echo '198.18.0.1 nhid 12 proto bgp metric 20 \	nexthop via 192.168.2.11 dev eth0 weight 1 \	nexthop via 192.168.2.12 dev eth0 weight 1 '
exec cat`
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script)
	hold, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	r, err := WatchRoutes(cmd)
	if err != nil {
		t.Fatal(err)
	}
	at, err := r.Await(t.Context(), 5*time.Second, netip.MustParseAddr("198.18.0.1"), func(route string) bool {
		return strings.Contains(route, "192.168.2.11 ") && strings.Contains(route, "192.168.2.12 ")
	})
	if err != nil || at.Before(begun) {
		t.Errorf("at %v, error %v", at, err)
	}
	gone := func(route string) bool { return route == "" }
	if at, err := r.Await(t.Context(), 5*time.Second, netip.MustParseAddr("198.18.0.2"), gone); err != nil || at.Before(begun) {
		t.Errorf("at %v, error %v", at, err)
	}
	if _, err := r.Await(t.Context(), 20*time.Millisecond, netip.MustParseAddr("198.18.0.1"), gone); err == nil {
		t.Error("a route that is there was taken for gone")
	}
	_ = hold.Close()
	if _, err := r.Await(t.Context(), 5*time.Second, netip.MustParseAddr("198.18.0.9"), func(string) bool { return false }); err == nil || !strings.Contains(err.Error(), "ended") {
		t.Errorf("error %v, want the end of the watch", err)
	}
}
