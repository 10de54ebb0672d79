#!/usr/bin/env bash
# Renders the chart with its defaults into config/manifests, for those who apply manifests or use kustomize: one source
# of truth, two ways to install it.
set -euo pipefail
cd "$(dirname "$0")/.."

out=config/manifests/herald.yaml
{
	echo "# Generated from charts/herald by make generate; do not edit."
	bin/helm template herald charts/herald --namespace metallb-system |
		# Nothing here is managed by Helm, and the namespace is the kustomization's to choose.
		grep -v 'app.kubernetes.io/managed-by: Helm\|helm.sh/chart:\|helm.sh/resource-policy:\|^# Source: ' | cat -s
} >"$out.new"
mv "$out.new" "$out"
