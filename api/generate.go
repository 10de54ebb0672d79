// SPDX-License-Identifier: Apache-2.0

package api

// One command makes the deep copies, config/crd, and the copy of the CRDs in
// the chart: go generate ./api/...
//
//go:generate go tool -modfile=../tools/go.mod controller-gen object crd:maxDescLen=2000 paths=./v1alpha1;./v1beta1;./v1beta2 output:crd:dir=../config/crd
//go:generate go run ./internal/crdgen ../config/crd ../charts/herald/files/crds
