// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/heraldlb/herald/api/v1beta1"
	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// selectors parses a list of selectors; an empty list gives nil.
func (s *subject) selectors(field string, in []v1beta1.LabelSelector) []lb.Selector {
	var out []lb.Selector
	for i := range in {
		out = append(out, s.selector(fmt.Sprintf("%s[%d]", field, i), &in[i]))
	}
	return out
}

func (s *subject) selector(field string, in *v1beta1.LabelSelector) lb.Selector {
	if _, err := metav1.LabelSelectorAsSelector(in.Meta()); err != nil {
		s.fail(reason.BadSelector, field, "", "%v: correct the selector", err)
		return lb.Selector{}
	}
	var out lb.Selector
	for _, k := range slices.Sorted(maps.Keys(in.MatchLabels)) {
		out.Requirements = append(out.Requirements, lb.Requirement{Key: k, Op: lb.In, Values: []string{in.MatchLabels[k]}})
	}
	for _, e := range in.MatchExpressions {
		// The operators were checked above and have the same names.
		out.Requirements = append(out.Requirements, lb.Requirement{Key: e.Key, Op: lb.Operator(e.Operator), Values: e.Values})
	}
	return out
}
