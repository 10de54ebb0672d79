// SPDX-License-Identifier: Apache-2.0

package speaker

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/bgp"
	"github.com/heraldlb/herald/internal/netnstest"
	"github.com/heraldlb/herald/internal/routertest"
)

// TestRoutersPasswords: a rotated Secret counts without a restart, a wrong one is the
// peer's reason, and without the Secret nobody tries without a password, not
// even with a router that would not mind.
func TestRoutersPasswords(t *testing.T) { //nolint:paralleltest // its routers have the names of another test's
	node, far := netnstest.Host(t), netnstest.New(t)
	netnstest.Veth(t, node, "pass0", far, "eth0")
	node.AddAddr(t, "pass0", netip.MustParsePrefix("10.0.94.1/24"))
	far.AddAddr(t, "eth0", netip.MustParsePrefix("10.0.94.254/24"))
	f := routertest.StartFRR(t, far, "router bgp 64600\n bgp router-id 10.9.9.1\n no bgp ebgp-requires-policy\n neighbor 10.0.94.1 remote-as 64512\n neighbor 10.0.94.1 password first\n")
	easy := newEasyRouter(t)

	o := newObjects(easy.at)
	clear(o.peers)
	o.peers["frr"] = churnPeer("frr", "10.0.94.254", 179)
	o.peers["easy"] = churnPeer("easy", easy.at.Addr().String(), easy.at.Port())
	for _, name := range []string{"frr", "easy"} {
		o.peers[name].Spec.PasswordSecret = v1beta1.SecretReference{Name: "shared"}
	}
	s := runSide(t, o)
	expect := func(what, peer string, check func(bgp.SessionState) bool) {
		t.Helper()
		routertest.Await(t, what, 20*time.Second, func() bool { return check(s.state(peer)) })
	}
	says := func(text string) func(bgp.SessionState) bool {
		return func(st bgp.SessionState) bool {
			return st.State != bgp.Established && strings.Contains(st.LastError, text)
		}
	}
	s.plan()
	expect("no Secret", "easy", says(`the Secret "shared" with the password does not exist`))
	time.Sleep(700 * time.Millisecond) // more than the first wait between attempts
	if n := easy.accepted.Load(); n != 0 {
		t.Fatalf("%d connections without the password that is wanted", n)
	}

	o.setSecret("shared", "first")
	s.awaitUp(t, "frr")
	o.setSecret("shared", "second") // before the router
	expect("the router has another one", "frr", says("MD5 mismatch suspected"))
	f.Configure("router bgp 64600\n neighbor 10.0.94.1 password second\n")
	s.awaitUp(t, "frr")

	o.mu.Lock()
	delete(o.secrets, "shared")
	o.mu.Unlock()
	expect("the Secret is gone", "frr", says("does not exist"))
}
