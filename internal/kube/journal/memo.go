// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/internal/core/lb"
)

// Memo is what a Service had that is gone, and until when that is remembered.
// It is a line of what leaders give to SetRemembered.
type Memo struct {
	Key       lb.ServiceKey
	Addresses []netip.Addr
	Until     time.Time
}

// String writes a line: TIME NAMESPACE/NAME ADDRESS,ADDRESS.
func (m Memo) String() string {
	parts := make([]string, len(m.Addresses))
	for i, a := range m.Addresses {
		parts[i] = a.String()
	}
	return fmt.Sprintf("%s %s %s", m.Until.Format(time.RFC3339), m.Key, strings.Join(parts, ","))
}

// ParseMemo reads what String has written.
func ParseMemo(line string) (Memo, error) {
	words := strings.Fields(line)
	if len(words) != 3 {
		return Memo{}, errors.New("not of the form TIME NAMESPACE/NAME ADDRESS,ADDRESS")
	}
	var m Memo
	var err error
	if m.Until, err = time.Parse(time.RFC3339, words[0]); err != nil {
		return Memo{}, err
	}
	m.Key.Namespace, m.Key.Name, _ = strings.Cut(words[1], "/")
	for text := range strings.SplitSeq(words[2], ",") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return Memo{}, err
		}
		m.Addresses = append(m.Addresses, a)
	}
	return m, nil
}

// Memos returns what the ConfigMap remembers, for those who do not lead. A line
// that cannot be read is left out.
func Memos(obj *corev1.ConfigMap) []Memo {
	var out []Memo
	for line := range strings.Lines(obj.Data[keyRemembered]) {
		if m, err := ParseMemo(line); err == nil {
			out = append(out, m)
		}
	}
	return out
}
