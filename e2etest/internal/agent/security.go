// SPDX-License-Identifier: Apache-2.0

package agent

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/heraldlb/herald/e2etest/internal/container"
)

// nonRootUser is the user of an image whose Pod wants "not root" without saying who. There is no image to ask; this is
// the number that minimal base images use.
const nonRootUser = 65532

// secure fills in who the container is and what it may do. The container's own settings win over the Pod's.
func secure(spec *container.Spec, pod *corev1.Pod, c corev1.Container) error {
	p, s := pod.Spec.SecurityContext, c.SecurityContext
	if p == nil {
		p = &corev1.PodSecurityContext{}
	}
	if s == nil {
		s = &corev1.SecurityContext{}
	}
	user := first(s.RunAsUser, p.RunAsUser)
	switch {
	case user != nil:
		spec.UID = int(*user)
	case isTrue(first(s.RunAsNonRoot, p.RunAsNonRoot)):
		spec.UID, spec.GID = nonRootUser, nonRootUser
	}
	if group := first(s.RunAsGroup, p.RunAsGroup); group != nil {
		spec.GID = int(*group)
	}
	for _, g := range p.SupplementalGroups {
		spec.Groups = append(spec.Groups, int(g))
	}
	if p.FSGroup != nil {
		spec.Groups = append(spec.Groups, int(*p.FSGroup))
	}
	var add, drop []string
	if s.Capabilities != nil {
		add, drop = names(s.Capabilities.Add), names(s.Capabilities.Drop)
	}
	var err error
	spec.Capabilities, err = container.Capabilities(add, drop, isTrue(s.Privileged))
	spec.NoNewPrivs = s.AllowPrivilegeEscalation != nil && !*s.AllowPrivilegeEscalation
	spec.ReadOnlyRoot = isTrue(s.ReadOnlyRootFilesystem)
	return err
}

func first[T any](list ...*T) *T {
	for _, p := range list {
		if p != nil {
			return p
		}
	}
	return nil
}

func names(list []corev1.Capability) []string {
	out := make([]string, len(list))
	for i, c := range list {
		out[i] = string(c)
	}
	return out
}
