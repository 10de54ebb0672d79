// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"net/netip"

	"github.com/heraldlb/herald/internal/core/reason"
)

// ask is what a Service asks for, checked against the configuration.
type ask struct {
	addrs [2]netip.Addr // zero: any
	pool  *pool         // nil: any that fits
	// bad says that the configuration cannot meet the request, whoever else
	// waits. Then nothing new is given, and nothing is taken because of it.
	bad reason.Reason
}

func (a *ask) refused() bool { return a.bad.Code != "" }

// because is reason.New for a text that is ready.
func because(code reason.Code, text string) reason.Reason {
	return reason.Reason{Code: code, Text: bound(text)}
}

// check sorts requests that may have to wait from those that cannot be met.
func (x *poolIndex) check(w *work) ask {
	req := &w.svc.Request
	if req.Invalid != "" {
		return ask{bad: because(reason.InvalidRequest, req.Invalid)}
	}
	var a ask
	if req.Pool != "" {
		if a.pool, a.bad = x.askedPool(w); a.refused() {
			return a
		}
	}
	if len(req.Addresses) == 0 || w.want.n == 0 {
		return a
	}
	if a.addrs, a.bad = askedFamilies(w); a.refused() {
		return a
	}
	for _, f := range w.want.list() {
		if a.bad = x.askedAddress(w, a.addrs[f], a.pool); a.refused() {
			return a
		}
	}
	return a
}

// askedPool finds the pool that w asks for by name.
func (x *poolIndex) askedPool(w *work) (*pool, reason.Reason) {
	name := w.svc.Request.Pool
	p := x.byName[name]
	switch {
	case p == nil:
		return nil, because(reason.UnknownPool, fmt.Sprintf("there is no pool %q; there are: %s", name, x.listed()))
	case p.frozen:
		return nil, because(reason.PoolInvalid, fmt.Sprintf("pool %q is invalid and hands out nothing: its condition Valid says why", name))
	case !p.admits(w.ns, w.svc.Labels):
		return nil, because(reason.PoolNotAllowed, p.only())
	}
	if len(w.svc.Request.Addresses) > 0 || w.want.n == 0 {
		return p, reason.Reason{}
	}
	var lacking families
	for _, f := range w.want.list() {
		if p.space[f].total == 0 {
			lacking.add(f)
		}
	}
	switch {
	case lacking.n > 0 && w.bothOrNothing():
		return nil, because(reason.DualStackUnavailable, p.shortOf(lacking, false, nil))
	case lacking.n == w.want.n:
		return nil, because(reason.NoPoolFits, p.shortOf(lacking, false, nil))
	}
	return p, reason.Reason{}
}

// askedFamilies wants one address for each family of the Service.
func askedFamilies(w *work) (addrs [2]netip.Addr, bad reason.Reason) {
	asked := w.svc.Request.Addresses
	ok := len(asked) == w.want.n
	for _, a := range asked {
		addrs[familyOf(a)] = a
	}
	for _, f := range w.want.list() {
		ok = ok && addrs[f].IsValid()
	}
	if !ok {
		return addrs, because(reason.FamilyMismatch, fmt.Sprintf(
			"asks for %s, but the families of the Service are %s", list(asked), list(w.want.list())))
	}
	return addrs, reason.Reason{}
}

// askedAddress says why w could never get a, from the pool only if that is not nil.
func (x *poolIndex) askedAddress(w *work, a netip.Addr, only *pool) reason.Reason {
	p := x.poolOf(a)
	switch {
	case only != nil && p != only:
		return because(reason.AddressNotInPool, fmt.Sprintf("%s is not in pool %q", a, only.Name))
	case p == nil:
		if f := x.frozenAt(a); f != nil {
			return because(reason.PoolInvalid, fmt.Sprintf("%s is in pool %q, which is invalid and hands out nothing: its condition Valid says why", a, f.Name))
		}
		return because(reason.AddressNotInPool, fmt.Sprintf("%s is in no pool (kubectl get ipaddresspools -A shows their addresses)", a))
	case p.leavesOut(a):
		return because(reason.AddressNotInPool, p.skips(a))
	case !p.admits(w.ns, w.svc.Labels):
		return because(reason.PoolNotAllowed, fmt.Sprintf("%s is in a pool for others: %s", a, p.only()))
	}
	return reason.Reason{}
}
