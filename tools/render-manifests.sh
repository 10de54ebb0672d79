#!/usr/bin/env bash
# Renders the chart with its defaults into config/manifests, for those who use kustomize: one source of truth, two ways to
# install it. The CRDs are in config/crd already.
set -euo pipefail
cd "$(dirname "$0")/.."

out=config/manifests/herald.yaml
{
	echo "# Generated from charts/herald by make generate; do not edit."
	bin/helm template herald charts/herald --namespace metallb-system --set crds.enabled=false |
		# Nothing here is managed by Helm, and the namespace is the kustomization's to choose.
		grep -v 'app.kubernetes.io/managed-by: Helm\|helm.sh/chart:\|^# Source: \|^$'
} >"$out.new"
mv "$out.new" "$out"
