// SPDX-License-Identifier: Apache-2.0

package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/heraldlb/herald/internal/core/lb"
	"github.com/heraldlb/herald/internal/core/reason"
)

// Options are the settings that change what a cluster looks like to Herald.
type Options struct {
	// Namespace is Herald's own; configuration elsewhere does not count.
	Namespace string
	// LBClass: empty serves Services without a class, else only those of that
	// class.
	LBClass string
	// IgnoreExcludeLB lets nodes announce that carry the label
	// node.kubernetes.io/exclude-from-external-load-balancers.
	IgnoreExcludeLB bool
	// FrozenPools are names of pools that may be missing only for the moment.
	// Unless an object has the name, the snapshot gets an empty frozen pool,
	// so that Services keep what they have from it.
	FrozenPools []string
	// Remembered are Services that are gone and may come back, by key.
	Remembered []lb.Remembered
	// Memo makes the next Build with it quicker, and changes nothing else.
	// Optional. So does Last, which takes less memory and spares more where
	// there are endpoints; there may be one of the two.
	Memo *Memo
	Last *Last
}

// The kinds that Problems name.
const (
	KindPool             = "IPAddressPool"
	KindL2Advertisement  = "L2Advertisement"
	KindBGPAdvertisement = "BGPAdvertisement"
	KindPeer             = "BGPPeer"
	KindBFDProfile       = "BFDProfile"
	KindCommunity        = "Community"
)

// Problem is one thing that is wrong with one configuration object.
type Problem struct {
	Kind  string
	Name  string
	Field string // path in the object, e.g. spec.addresses[2]
	// Value is what the field holds, as the user wrote it; never a secret.
	Value  string
	Reason reason.Reason
}

func (p Problem) compare(o Problem) int {
	return cmp.Or(strings.Compare(p.Kind, o.Kind), strings.Compare(p.Name, o.Name),
		strings.Compare(p.Field, o.Field), strings.Compare(p.Value, o.Value),
		strings.Compare(string(p.Reason.Code), string(o.Reason.Code)), strings.Compare(p.Reason.Text, o.Reason.Text))
}

// Build makes a snapshot of the objects and says what is wrong with which,
// sorted by kind, name and field. It never fails: an invalid pool is frozen,
// any other invalid object is left out, and all others work.
func Build(o Objects, opt Options) (lb.Snapshot, []Problem) {
	b := &builder{opt: opt}
	pools := own(o.Pools, opt.Namespace)
	var s lb.Snapshot
	s.Nodes = b.nodes(o.Nodes)
	s.Namespaces = namespaces(o.Namespaces)
	s.Services = b.services(o.Services, o.EndpointSlices)
	s.Pools = b.pools(pools)
	s.Reservations = reservations(o.Reservations)
	s.Remembered = opt.Remembered
	s.BFDProfiles = b.bfdProfiles(own(o.BFDProfiles, opt.Namespace))
	s.Peers = b.peers(own(o.Peers, opt.Namespace), s.BFDProfiles)
	aliases := b.communities(own(o.Communities, opt.Namespace))
	s.L2Advertisements = b.l2Advertisements(own(o.L2Advertisements, opt.Namespace), pools)
	s.BGPAdvertisements = b.bgpAdvertisements(own(o.BGPAdvertisements, opt.Namespace), pools, aliases, &s)
	slices.SortFunc(b.problems, Problem.compare)
	return s, b.problems
}

// builder collects the problems of one Build.
type builder struct {
	opt      Options
	problems []Problem
}

// subject is the object under examination.
type subject struct {
	b    *builder
	kind string
	name string
	bad  bool // it cannot be used
}

func (b *builder) subject(kind string, obj Object) *subject {
	return &subject{b: b, kind: kind, name: obj.GetName()}
}

// fail records that a field of the object is wrong and that the object is not
// used. The text says what is wrong and how to repair it; field and value are
// put in front of it.
func (s *subject) fail(code reason.Code, field, value, format string, args ...any) {
	s.bad = true
	s.note(code, field, value, format, args...)
}

// note is fail for an object that stays in use as far as possible.
func (s *subject) note(code reason.Code, field, value, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	var r reason.Reason
	if value == "" {
		r = reason.New(code, "%s: %s", field, text)
	} else {
		r = reason.New(code, "%s %q: %s", field, shorten(value), text)
	}
	s.b.problems = append(s.b.problems, Problem{Kind: s.kind, Name: s.name, Field: field, Value: value, Reason: r})
}

// shorten keeps messages readable when somebody pastes a book into a field.
func shorten(s string) string {
	const limit = 100
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "..."
}

// own returns the objects of the namespace, oldest first (by creation time,
// then name): where two contradict each other, the younger one is at fault.
func own[T Object](objs []T, namespace string) []T {
	out := make([]T, 0, len(objs))
	for _, o := range objs {
		if o.GetNamespace() == namespace {
			out = append(out, o)
		}
	}
	slices.SortFunc(out, older)
	return out
}

func older[T Object](a, b T) int {
	return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time), strings.Compare(a.GetName(), b.GetName()))
}

// names returns the names of the objects, sorted.
func names[T Object](objs []T) []string {
	out := make([]string, len(objs))
	for i, o := range objs {
		out[i] = o.GetName()
	}
	slices.Sort(out)
	return out
}

// among ends a sentence about an unknown name with the names there are.
func among(kind string, have []string) string {
	if len(have) == 0 {
		return fmt.Sprintf("there is no %s at all: create it", kind)
	}
	const most = 10
	more := ""
	if len(have) > most {
		more = fmt.Sprintf(" and %d more", len(have)-most)
		have = have[:most]
	}
	return fmt.Sprintf("no %s has this name: create it, or use one of %s%s", kind, strings.Join(have, ", "), more)
}

// sorted returns a sorted copy without duplicates; nil stays nil.
func sorted(in []string) []string {
	out := slices.Clone(in)
	slices.Sort(out)
	return slices.Compact(out)
}
