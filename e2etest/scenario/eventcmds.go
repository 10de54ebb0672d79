// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func eventCommands() map[string]command {
	return map[string]command{
		"events": {
			usage: "[SERVICE]",
			help: "Print Herald's events about the Service, or about all objects, with how often each was reported, repetitions included:\n" +
				"    1 nodeAssigned default/my-lb announcing from node \"node1\" with protocol \"layer2\".",
			run: events,
		},
	}
}

func events(ctx context.Context, s *session, args []string) (string, error) {
	r, err := s.here()
	if err != nil {
		return "", err
	}
	if len(args) > 1 {
		return "", fmt.Errorf("want one Service at most, got %q", args)
	}
	options := metav1.ListOptions{}
	if len(args) == 1 {
		options.FieldSelector = "involvedObject.kind=Service,involvedObject.name=" + args[0]
	}
	list, err := r.kube.CoreV1().Events("").List(ctx, options)
	if err != nil {
		return "", err
	}
	return reported(list.Items), nil
}

// reported sums up how often each fact was reported: an event that is repeated may be a new object, or count higher in the old one.
func reported(list []corev1.Event) string {
	count := map[string]int32{}
	for i := range list {
		e := &list[i]
		if strings.HasPrefix(e.Source.Component, "metallb-") {
			count[fmt.Sprintf("%s %s/%s %s", e.Reason, e.InvolvedObject.Namespace, e.InvolvedObject.Name, e.Message)] += max(1, e.Count)
		}
	}
	var b strings.Builder
	for _, what := range slices.Sorted(maps.Keys(count)) {
		fmt.Fprintf(&b, "%d %s\n", count[what], what)
	}
	return b.String()
}
