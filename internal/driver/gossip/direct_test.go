// SPDX-License-Identifier: Apache-2.0

package gossip_test

import (
	"strings"
	"testing"
)

// TestSendTo reaches one member and no other, whatever the length.
func TestSendTo(t *testing.T) {
	t.Parallel()
	a, b, c := trio(t)
	long := strings.Repeat("for b alone ", 500)
	a.SendTo("b", []byte("for b"))
	a.SendTo("b", []byte(long))
	a.SendTo("stranger", []byte("for nobody"))
	a.Send([]byte("for all"))
	for _, text := range []string{"for b", long, "for all"} {
		b.until(t, "a message", b.has(message(text)))
	}
	c.until(t, "the message for all, which came last", c.has(message("for all")))
	for _, text := range []string{"for b", long, "for nobody"} {
		if c.count(message(text)) != 0 {
			t.Errorf("c got %.20q", text)
		}
	}
	if b.count(message("for nobody")) != 0 {
		t.Error("b got what was for somebody else")
	}
}
