#!/usr/bin/env bash
# Installs the named Debian packages that are missing; silent when there is nothing to do.
set -euo pipefail

if ! command -v dpkg-query >/dev/null; then
	echo "not a Debian system: make sure that these are installed: $*" >&2
	exit 0
fi
missing=()
for p in "$@"; do
	[[ $(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null || true) == installed ]] || missing+=("$p")
done
((${#missing[@]} > 0)) || exit 0

echo "installing ${missing[*]}"
if ((EUID != 0)); then
	echo "not root; run: apt-get install ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
install() { apt-get -qq -y install --no-install-recommends "${missing[@]}" >/dev/null; }
# Package lists on a fresh machine are absent or old; fetch them only then.
install 2>/dev/null || { apt-get -qq update && install; }
