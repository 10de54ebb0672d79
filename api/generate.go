// SPDX-License-Identifier: Apache-2.0

package api

// One command makes the deep copies, config/crd, and the copy of the CRDs in
// the chart: go generate ./api/...
//go:generate go tool -modfile=../tools/go.mod controller-gen object paths=./...
