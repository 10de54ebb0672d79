// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

var (
	macA = MAC{2, 0, 0, 0, 0, 0xa}
	macB = MAC{2, 0, 0, 0, 0, 0xb}
	vip4 = netip.MustParseAddr("192.168.2.128")
	vip6 = netip.MustParseAddr("fd00:2::128")
)

func frame(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	t.Parallel()
	const (
		eth  = "ffffffffffff 02000000000a "
		arp  = "0806 0001 0800 06 04 "
		v6   = "86dd 60000000 0020 3a ff fe800000000000000000000000000001 ff020000000000000000000000000001 "
		addr = "fd000002000000000000000000000128 "
	)
	for name, tc := range map[string]struct {
		frame string
		want  Answer
		ok    bool
	}{
		"ARP reply":              {eth + arp + "0002 02000000000a c0a80280 02000000000b c0a80265", Answer{vip4, macA, false}, true},
		"gratuitous ARP request": {eth + arp + "0001 02000000000a c0a80280 000000000000 c0a80280", Answer{vip4, macA, true}, true},
		"gratuitous ARP reply":   {eth + arp + "0002 02000000000a c0a80280 ffffffffffff c0a80280", Answer{vip4, macA, true}, true},
		"ARP request":            {eth + arp + "0001 02000000000a c0a80265 000000000000 c0a80280", Answer{}, false},
		"ARP probe":              {eth + arp + "0001 02000000000a 00000000 000000000000 c0a80280", Answer{}, false},
		"short ARP":              {eth + arp + "0002 02000000000a", Answer{}, false},
		"solicited advertisement with the MAC in the option": {
			eth + v6 + "88 00 0000 60000000 " + addr + "02 01 02000000000b", Answer{vip6, macB, false}, true},
		"unsolicited advertisement": {
			eth + v6 + "88 00 0000 20000000 " + addr + "02 01 02000000000a", Answer{vip6, macA, true}, true},
		"advertisement without option": {
			eth + strings.Replace(v6, "0020 3a", "0018 3a", 1) + "88 00 0000 60000000 " + addr, Answer{vip6, macA, false}, true},
		"padding is no option": {
			eth + strings.Replace(v6, "0020 3a", "0018 3a", 1) + "88 00 0000 60000000 " + addr + "0000000000000000",
			Answer{vip6, macA, false}, true},
		"option of length 0":    {eth + v6 + "88 00 0000 60000000 " + addr + "02 00 02000000000a", Answer{}, false},
		"solicitation":          {eth + v6 + "87 00 0000 00000000 " + addr + "01 01 02000000000a", Answer{}, false},
		"hop limit not 255":     {eth + strings.Replace(v6, "3a ff", "3a 40", 1) + "88 00 0000 60000000 " + addr + "02 01 02000000000b", Answer{}, false},
		"other Ethernet type":   {eth + "0800 4500", Answer{}, false},
		"shorter than Ethernet": {"0200", Answer{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, ok := Decode(frame(t, tc.frame))
			if got = want(got, ok); ok != tc.ok || got != tc.want {
				t.Errorf("got %+v, %v; want %+v, %v", got, ok, tc.want, tc.ok)
			}
		})
	}
}

// want drops what a refused frame returns.
func want(a Answer, ok bool) Answer {
	if !ok {
		return Answer{}
	}
	return a
}

func TestRequestIPv4(t *testing.T) {
	t.Parallel()
	got := hex.EncodeToString(Request(macA, netip.MustParseAddr("192.168.2.9"), vip4))
	want := "ffffffffffff02000000000a0806" + "0001080006040001" + "02000000000ac0a80209" + "000000000000c0a80280"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// The checksum of a correct ICMPv6 message, summed over with the field in place, is zero.
func TestRequestIPv6Checksum(t *testing.T) {
	t.Parallel()
	f := Request(macA, LinkLocal(macA), vip6)
	from, to := netip.AddrFrom16([16]byte(f[22:38])), netip.AddrFrom16([16]byte(f[38:54]))
	if to.String() != "ff02::1:ff00:128" {
		t.Errorf("sent to %s, want the solicited-node group ff02::1:ff00:128", to)
	}
	if from.String() != "fe80::ff:fe00:a" {
		t.Errorf("sent from %s, want the link-local address fe80::ff:fe00:a", from)
	}
	if sum := checksum(from, to, f[54:]); sum != 0 {
		t.Errorf("checksum over the message is %#04x, want 0", sum)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(Request(macA, netip.MustParseAddr("192.168.2.9"), vip4))
	f.Add(Request(macA, LinkLocal(macA), vip6))
	f.Fuzz(func(t *testing.T, b []byte) {
		if a, ok := Decode(b); ok && !a.Addr.IsValid() {
			t.Errorf("accepted a frame without address: %x", b)
		}
	})
}
