// SPDX-License-Identifier: Apache-2.0

package echo

import "testing"

func TestAnswer(t *testing.T) {
	t.Parallel()
	for client, want := range map[string]string{
		"192.0.2.7:4711":          "pod=p\nclient=192.0.2.7\nport=80\n",
		"[::ffff:192.0.2.7]:4711": "pod=p\nclient=192.0.2.7\nport=80\n", // IPv4 on a socket for both families
		"[2001:db8::7]:4711":      "pod=p\nclient=2001:db8::7\nport=80\n",
	} {
		if got := answer("pod=p\n", client, "80"); got != want {
			t.Errorf("answer to %s: %q, want %q", client, got, want)
		}
	}
}
