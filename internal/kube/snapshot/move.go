// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/internal/core/lb"
)

// move reads the wish for another owner. One that cannot be read is none: it is
// written by a program, which sees that nothing moves.
func move(obj *corev1.Service) lb.Move {
	wish, ok := obj.Annotations[api.AnnotationL2MoveTo]
	if !ok {
		return lb.Move{} // nearly always
	}
	node, when, _ := strings.Cut(strings.TrimSpace(wish), " ")
	at, err := time.Parse(time.RFC3339, strings.TrimSpace(when))
	if node == "" || err != nil {
		return lb.Move{}
	}
	return lb.Move{To: lb.NodeName(node), At: at}
}
