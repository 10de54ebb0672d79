#!/usr/bin/env bash
# Checks what a reviewer should not have to: generated files and go.mod files up to date, gofmt, the chart.
# usage: tools/verify.sh MODULE-DIRECTORY...
set -euo pipefail
cd "$(dirname "$0")/.."

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
failed=0
check() {
	local what=$1
	shift
	if "$@"; then
		echo "ok    $what"
	else
		echo "FAIL  $what" >&2
		failed=1
	fi
}

sources() { git ls-files -co --exclude-standard; }

# In a copy, so that neither the state of the work tree nor of the index matters, and nothing is changed.
generated() {
	mkdir "$tmp/before"
	sources | while read -r f; do [[ ! -e $f ]] || echo "$f"; done | tar -cf - -T - | tar -xf - -C "$tmp/before"
	cp -r "$tmp/before" "$tmp/after"
	ln -s "$PWD/bin" "$tmp/after/bin"
	(cd "$tmp/after" && make generate >/dev/null) || return 1
	diff -r --exclude=bin "$tmp/before" "$tmp/after" || {
		echo "run make generate and commit the result" >&2
		return 1
	}
}

formatted() {
	local bad
	bad=$(sources | grep '\.go$' | xargs gofmt -l)
	[[ -z $bad ]] || { echo "not gofmt-ed: $bad" >&2; return 1; }
}

rendered() { bin/helm template herald charts/herald --namespace metallb-system >/dev/null; }

check "generated files" generated
check "gofmt" formatted
for m in "$@"; do
	check "go mod tidy: $m" go -C "$m" mod tidy -diff
done
check "CRDs of config and chart are equal" diff -r -x kustomization.yaml config/crd charts/herald/files/crds
check "helm lint" bin/helm lint --strict --quiet charts/herald
check "helm template" rendered
exit $failed
