// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"errors"
	"fmt"
	"time"
)

// Options are the settings of a controller. cmd/controller fills them from
// flags.
type Options struct {
	// Namespace is Herald's own: where its configuration objects, its Lease
	// and its Secret are. Required.
	Namespace string
	// LBClass limits the controller to Services of this loadBalancerClass;
	// empty means Services without one.
	LBClass string
	// MLSecretName is the Secret with the key that encrypts gossip. The
	// controller makes it when it is missing. Empty: it makes none.
	MLSecretName string
	// RememberAddresses is how long a Service that was deleted gets the same
	// addresses again if it is created anew, unless somebody else needs them.
	// 0: nothing is remembered.
	RememberAddresses time.Duration

	// Port serves /metrics and /debug/plan; 0 turns it off.
	Port int
	// HealthProbePort serves /healthz and /readyz; 0 turns it off.
	HealthProbePort int
	// PprofBindAddress serves net/http/pprof; empty turns it off.
	PprofBindAddress string
}

// validate names the flag that is wrong.
func (o *Options) validate() error {
	var errs []error
	if o.Namespace == "" {
		errs = append(errs, errors.New("--namespace (or METALLB_NAMESPACE) is required: the namespace of Herald"))
	}
	if o.RememberAddresses < 0 {
		errs = append(errs, fmt.Errorf("--remember-addresses %v is negative: give a duration such as 10m, or 0 to turn it off", o.RememberAddresses))
	}
	port := func(flag string, p int) {
		if p < 0 || p > 65535 {
			errs = append(errs, fmt.Errorf("%s %d is not a port: give 1 to 65535, or 0 to turn it off", flag, p))
		}
	}
	port("--port", o.Port)
	port("--health-probe-port", o.HealthProbePort)
	if o.Port != 0 && o.Port == o.HealthProbePort {
		errs = append(errs, fmt.Errorf("--port and --health-probe-port are both %d: give different ones", o.Port))
	}
	return errors.Join(errs...)
}
