#!/usr/bin/env bash
# Runs every fuzz target for a while: fuzz.sh [TIME [PATTERN]], such as
# fuzz.sh 30s layer. What a target finds is written to its testdata/fuzz and
# stays a test.
set -euo pipefail
cd "$(dirname "$0")/.."
time=${1:-20s} pattern=${2:-.}
failed=0
while IFS=: read -r file target; do
	package=./$(dirname "$file")
	printf '%s %s\n' "$package" "$target"
	out=$(go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 100x "$package" 2>&1) || { echo "$out"; failed=1; }
done < <(git ls-files '*_test.go' | xargs grep -HoE '^func Fuzz[A-Za-z0-9_]+' | sed 's/func //' | grep -E -- "$pattern")
exit $failed
