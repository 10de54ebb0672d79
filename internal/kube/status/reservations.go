// SPDX-License-Identifier: Apache-2.0

package status

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1alpha1"
	"github.com/heraldlb/herald/internal/core/ipam"
	"github.com/heraldlb/herald/internal/core/lb"
)

// reservations returns the writes that make reservations show what they hold.
// A number of addresses stays the same addresses because they are recorded
// there.
func reservations(objs []*v1alpha1.IPReservation, plan []ipam.Holding, now time.Time) []Write {
	byKey := make(map[lb.ReservationKey]*v1alpha1.IPReservation, len(objs))
	for _, o := range objs {
		byKey[lb.ReservationKey{Namespace: o.Namespace, Name: o.Name}] = o
	}
	var out []Write
	for i := range plan {
		obj := byKey[plan[i].Key]
		if obj == nil || obj.DeletionTimestamp != nil {
			continue
		}
		if w, ok := reservation(obj, &plan[i], now); ok {
			out = append(out, w)
		}
	}
	return out
}

func reservation(obj *v1alpha1.IPReservation, h *ipam.Holding, now time.Time) (Write, bool) {
	want := v1alpha1.IPReservationStatus{
		Held:        fmt.Sprintf("%d/%d", len(h.Addresses), h.Wanted),
		AddressList: addressList(h.Addresses),
	}
	for i := range h.Addresses {
		a := reservedAddress(&h.Addresses[i])
		if a.State == v1alpha1.ReservedInUse {
			want.InUse++
		}
		want.Addresses = append(want.Addresses, a)
	}
	have := &obj.Status
	cond, differs := condition(have.Conditions, metav1.Condition{
		Type:               api.ConditionValid,
		Status:             conditionStatus(h.Reason.Good()),
		Reason:             string(h.Reason.Code),
		Message:            h.Reason.Text,
		ObservedGeneration: obj.Generation,
	}, now)
	same := slices.EqualFunc(have.Addresses, want.Addresses, sameUse)
	if !differs && same && have.Held == want.Held && have.InUse == want.InUse && have.AddressList == want.AddressList {
		return Write{}, false
	}
	old := find(have.Conditions, api.ConditionValid)
	w := Write{Object: obj, PatchType: types.MergePatchType, Minor: !differs && sameAddresses(have.Addresses, want.Addresses)}
	if !h.Reason.Good() && (old == nil || old.Reason != cond.Reason || old.Message != cond.Message) {
		w.Events = []Event{{corev1.EventTypeWarning, api.EventInvalid, cond.Message}}
	}
	w.Patch = encode(patch{
		Metadata: patchMeta{ResourceVersion: obj.ResourceVersion, UID: string(obj.UID)},
		Status: map[string]any{
			"held": want.Held, "inUse": want.InUse, "addressList": want.AddressList,
			"addresses":  want.Addresses,
			"conditions": replaced(have.Conditions, cond),
		},
	})
	return w, true
}

func reservedAddress(h *ipam.Held) v1alpha1.ReservedAddress {
	out := v1alpha1.ReservedAddress{
		Address:    h.Address.String(),
		Pool:       h.Pool,
		State:      v1alpha1.ReservedState(cmp.Or(string(h.State), string(v1alpha1.ReservedFree))),
		LastUsedBy: h.Last,
	}
	for _, k := range h.UsedBy {
		out.UsedBy = append(out.UsedBy, k.String())
	}
	return out
}

func sameUse(a, b v1alpha1.ReservedAddress) bool {
	return a.Address == b.Address && a.Pool == b.Pool && a.State == b.State &&
		slices.Equal(a.UsedBy, b.UsedBy) && slices.Equal(a.LastUsedBy, b.LastUsedBy)
}

// sameAddresses reports whether only the use of the addresses differs.
func sameAddresses(a, b []v1alpha1.ReservedAddress) bool {
	return slices.EqualFunc(a, b, func(x, y v1alpha1.ReservedAddress) bool { return x.Address == y.Address })
}

// addressList is a column of kubectl get.
func addressList(held []ipam.Held) string {
	const most = 4
	var parts []string
	for i := range held[:min(most, len(held))] {
		parts = append(parts, held[i].Address.String())
	}
	if len(held) > most {
		parts = append(parts, fmt.Sprintf("and %d more", len(held)-most))
	}
	return strings.Join(parts, " ")
}
