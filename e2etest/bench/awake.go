// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
)

// latencyFile takes the longest time, in microseconds, that processors may need to wake up; it holds while the file is open (kernel
// documentation, "PM Quality Of Service Interface").
const latencyFile = "/dev/cpu_dma_latency"

// keepAwake keeps processors that have nothing to do from sleeping, until the function returned is called. How long one takes to wake up
// is a property of the machine: next to nothing on some, more than all the rest of an answer on virtual machines, where the hypervisor has to
// do it.
func keepAwake() (func() error, error) {
	f, err := os.OpenFile(latencyFile, os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("keep processors awake: %w", err)
	}
	if _, err := f.Write(binary.NativeEndian.AppendUint32(nil, 0)); err != nil {
		return nil, errors.Join(fmt.Errorf("keep processors awake: %w", err), f.Close())
	}
	return f.Close, nil
}
