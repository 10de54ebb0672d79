// SPDX-License-Identifier: Apache-2.0

package liveness

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/heraldlb/herald/internal/core/lb"
)

// ring is the order of the living nodes. Names that look alike are often racked
// together and die together, so their hashes give the order.
type ring []place

type place struct {
	hash uint64
	node lb.NodeName
}

func newPlace(node lb.NodeName) place {
	sum := sha256.Sum256([]byte(node))
	return place{hash: binary.BigEndian.Uint64(sum[:]), node: node}
}

func comparePlaces(a, b place) int {
	return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(a.node, b.node))
}

// add returns a ring with the node; remove one without it. They leave the given
// one as it is.
func (r ring) add(node lb.NodeName) ring {
	p := newPlace(node)
	if i, found := slices.BinarySearchFunc(r, p, comparePlaces); !found {
		return slices.Insert(slices.Clone(r), i, p)
	}
	return r
}

func (r ring) remove(node lb.NodeName) ring {
	if i, found := slices.BinarySearchFunc(r, newPlace(node), comparePlaces); found {
		return slices.Delete(slices.Clone(r), i, i+1)
	}
	return r
}

// neighbours lists the nodes next to one in the ring, reach on each side, in
// order of distance, without the node itself.
func (r ring) neighbours(node lb.NodeName) []lb.NodeName {
	at, found := slices.BinarySearchFunc(r, newPlace(node), comparePlaces)
	if !found {
		return nil
	}
	var out []lb.NodeName
	for d := 1; d <= reach; d++ {
		for _, i := range []int{at + d, at - d + len(r)} {
			n := r[i%len(r)].node
			if d < len(r) && n != node && !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out
}
