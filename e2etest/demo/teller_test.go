// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTeller(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		d := newTeller(&out)
		d.title("A story")
		time.Sleep(1500 * time.Millisecond)
		d.step("Begin")
		fmt.Fprint(d.lines(), "one\ntwo\nunfinished")
		d.command("client1", "curl x", "a\n\nb\n")
		d.highlight("gap: 7 ms")
		want := `A story

   1.5 s  1  Begin
   1.5 s     one
   1.5 s     two

            client1$ curl x
            a

            b

            ==> gap: 7 ms
`
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("story (-want +got):\n%s", diff)
		}
	})
}
