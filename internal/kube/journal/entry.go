// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/internal/kube/status"
)

// Entry is one write that changes the addresses of a Service.
type Entry struct {
	Namespace string    `json:"namespace"`
	Name      string    `json:"name"`
	UID       types.UID `json:"uid"`
	// Version is the resource version that the write was decided on and is
	// bound to. An object of another version cannot be reached by it.
	Version string `json:"version"`
	// Addresses are all that the Service has after it.
	Addresses []netip.Addr `json:"addresses"`
	// Patch is what is sent to services/status.
	Patch json.RawMessage `json:"patch"`

	// again: an older write that wants the same of the same version may be under way, too.
	again bool
}

// entries returns the entries of those writes that need one.
func entries(writes []status.Write) []Entry {
	var out []Entry
	for i := range writes {
		w := &writes[i]
		if !w.Moves {
			continue
		}
		out = append(out, Entry{
			Namespace: w.Object.GetNamespace(), Name: w.Object.GetName(), UID: w.Object.GetUID(), Version: w.Object.GetResourceVersion(),
			Addresses: w.Addresses, Patch: w.Patch,
		})
	}
	return out
}

// MayReach reports whether the write can still be carried out, given the
// Service as it is.
func (e *Entry) MayReach(uid types.UID, version string) bool {
	return e.UID == uid && e.Version == version
}

// Key is the name of the Service.
func (e *Entry) Key() types.NamespacedName {
	return types.NamespacedName{Namespace: e.Namespace, Name: e.Name}
}

// replaces reports whether e, the younger one, makes an entry for o
// unnecessary: they want the same of the same version.
func (e *Entry) replaces(o *Entry) bool {
	return e.MayReach(o.UID, o.Version) && slices.Equal(e.Addresses, o.Addresses)
}

// merge returns the older entries that are not replaced, and the younger ones.
func merge(old, young []Entry) []Entry {
	if len(old) == 0 {
		return young
	}
	byUID := make(map[types.UID]*Entry, len(young))
	for i := range young {
		byUID[young[i].UID] = &young[i]
	}
	out := slices.DeleteFunc(slices.Clone(old), func(o Entry) bool {
		e := byUID[o.UID]
		if e == nil || !e.replaces(&o) {
			return false
		}
		e.again = true
		return true
	})
	return append(out, young...)
}

// encode writes one entry to a line.
func encode(list []Entry) (string, error) {
	var b strings.Builder
	for i := range list {
		line, err := json.Marshal(&list[i])
		if err != nil {
			return "", fmt.Errorf("write an entry for Service %s: %w", list[i].Key(), err)
		}
		b.Write(line)
		b.WriteByte('\n')
	}
	return b.String(), nil
}

// decode reads what encode has written. It returns what can be read, and an
// error if that is not all.
func decode(text string) ([]Entry, error) {
	var out []Entry
	var errs []error
	for line := range strings.Lines(text) {
		var e Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			errs = append(errs, err)
			continue
		}
		if e.Name == "" || e.UID == "" || e.Version == "" || len(e.Patch) == 0 {
			errs = append(errs, fmt.Errorf("an entry lacks a field: %s", line))
			continue
		}
		out = append(out, e)
	}
	return out, errors.Join(errs...)
}
