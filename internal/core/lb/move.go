// SPDX-License-Identifier: Apache-2.0

package lb

import "time"

// Move is the wish to have a Service announced by a certain node from now on.
// It is an event, not a state: once it is done, or could not be done, it means
// nothing any more, though it may still be written on the Service.
type Move struct {
	To NodeName
	At time.Time // when it was wished
}
