#!/usr/bin/env bash
# Runs levels of tests one after the other, all of them even if one fails, and ends with one summary of all.
# usage: tools/test.sh LEVEL...    levels: unit drivers api scenarios (docs/testing.md)
set -euo pipefail
cd "$(dirname "$0")/.."

logs=$PWD/bin/test
gotestsum=$PWD/bin/gotestsum
mkdir -p "$logs"

# run NAME DIR FORMAT go-test-arguments...
run() {
	local name=$1 dir=$2 format=$3
	shift 3
	(cd "$dir" && "$gotestsum" --format "$format" --jsonfile "$logs/$name.json" -- "$@")
}

# Tests of the speaker with real routers.
routers='^TestRouters'

level() {
	case $1 in
	unit)
		local packages
		packages=$(go list ./... | grep -v '/internal/driver/\|/internal/netnstest\|/speaker/bgpinterop')
		# shellcheck disable=SC2086 # one word per package
		run unit . pkgname -timeout 10m -skip "$routers" $packages
		;;
	drivers)
		local packages
		packages=$(go list ./... | grep '/internal/driver/\|/internal/netnstest\|/speaker/bgpinterop')
		local rc=0
		# shellcheck disable=SC2086
		run drivers . pkgname -timeout 10m $packages || rc=$?
		run routers . pkgname -timeout 10m -run "$routers" ./speaker || rc=$?
		return $rc
		;;
	api)
		# Never from the cache: it knows nothing of files outside the module, and these test the chart and the CRDs.
		run api e2etest pkgname -timeout 15m -count 1 ./api/... ./chart/...
		;;
	scenarios)
		# One package at a time: every scenario is a whole cluster, and this is about time. Never from the cache: what
		# is tested are the programs in bin/.
		local packages
		packages=$(cd e2etest && go list ./... | grep -v '/e2etest/api\|/e2etest/chart')
		# shellcheck disable=SC2086
		run scenarios e2etest testname -timeout 80m -p 1 -count 1 ${RUN:+-run "$RUN"} $packages
		;;
	*)
		echo "unknown level \"$1\": unit, drivers, api or scenarios" >&2
		return 2
		;;
	esac
}

rm -f "$logs"/*.json
failed=()
for l in "$@"; do
	echo "== level: $l ($(date +%H:%M:%S))"
	level "$l" || failed+=("$l")
done

if (($# > 1)); then
	echo "== all levels: $* ($(date +%H:%M:%S))"
	for l in "$@"; do
		[[ -s $logs/$l.json ]] || echo "level $l gave no results: see above"
	done
	# The JSON of all levels once more through gotestsum: the failures and the totals in one place, at the end.
	"$gotestsum" --format standard-quiet --raw-command -- cat "$logs"/*.json || true
fi
if ((${#failed[@]} > 0)); then
	echo "failed levels: ${failed[*]}" >&2
	exit 1
fi
