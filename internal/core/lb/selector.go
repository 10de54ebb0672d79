// SPDX-License-Identifier: Apache-2.0

package lb

import "slices"

// Operator is the relation of a Requirement.
type Operator string

// The operators of a Kubernetes label selector.
const (
	In           Operator = "In"
	NotIn        Operator = "NotIn"
	Exists       Operator = "Exists"
	DoesNotExist Operator = "DoesNotExist"
)

// Requirement is one condition on a label.
type Requirement struct {
	Key    string
	Op     Operator
	Values []string
}

// Selector is a Kubernetes label selector, already checked. All requirements
// must hold; without any it matches everything.
type Selector struct {
	Requirements []Requirement
}

// Matches reports whether labels fulfil the selector. As in Kubernetes, NotIn
// and DoesNotExist hold for a label that is absent.
func (s Selector) Matches(labels map[string]string) bool {
	for _, r := range s.Requirements {
		if !r.matches(labels) {
			return false
		}
	}
	return true
}

func (r Requirement) matches(labels map[string]string) bool {
	v, ok := labels[r.Key]
	switch r.Op {
	case In:
		return ok && slices.Contains(r.Values, v)
	case NotIn:
		return !ok || !slices.Contains(r.Values, v)
	case Exists:
		return ok
	case DoesNotExist:
		return !ok
	default:
		panic("lb: selector with unknown operator " + string(r.Op))
	}
}

// MatchesAny reports whether one of the selectors matches. No selectors at all
// match nothing; a caller for whom "none" means "everything" says so itself.
func MatchesAny(selectors []Selector, labels map[string]string) bool {
	return slices.ContainsFunc(selectors, func(s Selector) bool { return s.Matches(labels) })
}

// SelectsNode reports whether the scope includes a node with these labels.
func (s *Scope) SelectsNode(labels map[string]string) bool {
	return len(s.NodeSelectors) == 0 || MatchesAny(s.NodeSelectors, labels)
}

// SelectsService reports whether the scope includes a Service with these labels.
func (s *Scope) SelectsService(labels map[string]string) bool {
	return len(s.ServiceSelectors) == 0 || MatchesAny(s.ServiceSelectors, labels)
}

// SelectsPool reports whether the scope includes the pool.
func (s *Scope) SelectsPool(name string) bool {
	return s.AllPools || slices.Contains(s.Pools, name)
}

// Allows reports whether the pin admits a Service with these labels, in a
// namespace with those.
func (p *Pin) Allows(namespace Namespace, serviceLabels map[string]string) bool {
	return p.AllowsNamespace(namespace) &&
		(len(p.ServiceSelectors) == 0 || MatchesAny(p.ServiceSelectors, serviceLabels))
}

// AllowsNamespace reports whether the pin admits the namespace.
func (p *Pin) AllowsNamespace(ns Namespace) bool {
	if len(p.Namespaces) == 0 && len(p.NamespaceSelectors) == 0 {
		return true
	}
	return slices.Contains(p.Namespaces, ns.Name) || MatchesAny(p.NamespaceSelectors, ns.Labels)
}
