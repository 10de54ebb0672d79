// SPDX-License-Identifier: Apache-2.0

package v1beta1_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/heraldlb/herald/api/v1beta1"
)

func TestSelector(t *testing.T) {
	t.Parallel()
	type requirements = []v1beta1.LabelSelectorRequirement
	object := labels.Set{"app": "web", "zone": "a"}
	for name, c := range map[string]struct {
		selector *v1beta1.LabelSelector
		matches  bool
		wrong    bool
	}{
		"nil selects nothing":      {selector: nil},
		"empty selects everything": {selector: &v1beta1.LabelSelector{}, matches: true},
		"labels":                   {selector: &v1beta1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}, matches: true},
		"another label":            {selector: &v1beta1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}},
		"both must hold": {selector: &v1beta1.LabelSelector{
			MatchLabels:      map[string]string{"app": "web"},
			MatchExpressions: requirements{{Key: "zone", Operator: v1beta1.LabelSelectorOpNotIn, Values: []string{"a"}}},
		}},
		"in": {selector: &v1beta1.LabelSelector{
			MatchExpressions: requirements{{Key: "zone", Operator: v1beta1.LabelSelectorOpIn, Values: []string{"b", "a"}}},
		}, matches: true},
		"exists": {selector: &v1beta1.LabelSelector{
			MatchExpressions: requirements{{Key: "zone", Operator: v1beta1.LabelSelectorOpExists}, {Key: "x", Operator: v1beta1.LabelSelectorOpDoesNotExist}},
		}, matches: true},
		"in without values": {selector: &v1beta1.LabelSelector{
			MatchExpressions: requirements{{Key: "zone", Operator: v1beta1.LabelSelectorOpIn}},
		}, wrong: true},
		"an unknown operator": {selector: &v1beta1.LabelSelector{
			MatchExpressions: requirements{{Key: "zone", Operator: "Gt", Values: []string{"1"}}},
		}, wrong: true},
		"a value no label can have": {selector: &v1beta1.LabelSelector{MatchLabels: map[string]string{"app": "a b"}}, wrong: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := c.selector.Selector()
			if (err != nil) != c.wrong {
				t.Fatalf("error is %v, want one: %t", err, c.wrong)
			}
			if err == nil && s.Matches(object) != c.matches {
				t.Errorf("%s matches %s: %t, want %t", s, object, !c.matches, c.matches)
			}
		})
	}
}

// The type must read and write what metav1.LabelSelector does: manifests are written for that one.
func TestLabelSelectorIsWrittenAsKubernetesDoes(t *testing.T) {
	t.Parallel()
	ours := v1beta1.LabelSelector{
		MatchLabels: map[string]string{"a": "b"},
		MatchExpressions: []v1beta1.LabelSelectorRequirement{
			{Key: "k", Operator: v1beta1.LabelSelectorOpIn, Values: []string{"v"}},
			{Key: "e", Operator: v1beta1.LabelSelectorOpExists},
		},
	}
	b, err := json.Marshal(ours)
	if err != nil {
		t.Fatal(err)
	}
	var theirs metav1.LabelSelector
	if err := json.Unmarshal(b, &theirs); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(*ours.Meta(), theirs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	again, err := json.Marshal(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(b), string(again)); diff != "" {
		t.Errorf("(-ours +theirs):\n%s", diff)
	}
}
