// SPDX-License-Identifier: Apache-2.0

package controller

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/heraldlb/herald/api"
	"github.com/heraldlb/herald/api/v1beta1"
)

// ownState reads the controller's ConfigurationState past the cache, for when
// there is no complete reading; empty if it does not exist.
func (c *Controller) ownState(ctx context.Context) ([]*v1beta1.ConfigurationState, error) {
	var s v1beta1.ConfigurationState
	err := c.direct.Get(ctx, types.NamespacedName{Namespace: c.opts.Namespace, Name: api.ComponentController}, &s)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return []*v1beta1.ConfigurationState{&s}, nil
}
