#!/usr/bin/env bash
# Counts the instructions of uncontended operations on channels with valgrind's callgrind, and compares them with
# benches/instructions.txt. Unlike times, they are the same on a busy machine: what costs more here has become longer.
#
#     scripts/instructions.sh [--update]
#
#   --update  write benches/instructions.txt anew
#
# Fails where one takes over a tenth more than it says there. Skips where there is no valgrind.
set -euo pipefail

cd "$(dirname "$0")/.."
expected=benches/instructions.txt
if ! command -v valgrind >/dev/null; then
    echo "instructions.sh: skipped: there is no valgrind here (apt-get install valgrind)"
    exit 0
fi

program=$(cargo bench --quiet --bench instructions --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/instructions-[^"]*\)".*/\1/p')
counted=$(mktemp)
trap 'rm -f "$counted"' EXIT

# The instructions of so many operations, and whatever is not theirs.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect='*measured*' "$program" "$@" 2>&1 |
        sed -n 's/.*Collected *: *\([0-9]\+\).*/\1/p'
}

# Unbounded channels make a block of places now and then: enough operations for the mean of it.
few=1000
many=11000
while read -r channel operation; do
    short=$(count "$channel" "$operation" "$few")
    long=$(count "$channel" "$operation" "$many")
    : "${short:?valgrind has counted nothing}" "${long:?valgrind has counted nothing}"
    awk -v name="$channel $operation" -v d=$((long - short)) -v n=$((many - few)) \
        'BEGIN { printf "%s %.1f\n", name, d / n }' >>"$counted"
done < <("$program" --list)

if [[ ${1:-} == --update ]]; then
    {
        echo "# Instructions of an uncontended operation: $(uname -m), $(rustc --version | cut -d' ' -f1-2)."
        echo "# Written by scripts/instructions.sh --update."
        cat "$counted"
    } >"$expected"
    cat "$expected"
    exit
fi
if ! grep -q "^# .*: $(uname -m)," "$expected"; then
    echo "instructions.sh: skipped: $expected is not of this architecture"
    exit 0
fi

awk '
    /^#/ { next }
    NR == FNR { expected[$1 " " $2] = $3; next }
    {
        name = $1 " " $2
        if (!(name in expected)) { printf "%-28s %7.1f, and nothing is expected: --update\n", name, $3; bad = 1; next }
        more = $3 > expected[name] * 1.1
        printf "%-28s %7.1f, expected %7.1f%s\n", name, $3, expected[name], more ? ": more than a tenth above" : ""
        bad = bad || more
    }
    END { exit bad }
' "$expected" "$counted"
