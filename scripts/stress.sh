#!/usr/bin/env bash
# Runs the test suite over and over, in every form, on a busy machine: what fails once in fifty times is a race.
#
#     scripts/stress.sh [-j JOBS] [-x FILES] [ROUNDS]
#
#   ROUNDS    how often the whole suite runs (50)
#   -j JOBS   how many suites run side by side (3): they are what keeps the machine busy
#   -x FILES  more test files to leave out, separated by commas
#
# The forms take turns: debug and release; GOMAXPROCS 1, 2 and 8; stacks of our own and a thread for each goroutine. Left
# out are ui and crossbeam_api, in which nothing of ours runs. Each round is a line; what failed is printed, and kept in
# target/stress. Fails if anything did.
set -euo pipefail
cd "$(dirname "$0")/.."

jobs=3
left_out=,ui,crossbeam_api,
while getopts j:x: option; do
    case $option in
        j) jobs=$OPTARG ;;
        x) left_out+=$OPTARG, ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
rounds=${1:-50}

results=$PWD/target/stress
rm -rf "$results"
mkdir -p "$results"
export RUST_BACKTRACE=1 CARGO_TERM_COLOR=never CARGO_PROFILE_DEV_DEBUG=line-tables-only

# executables PROFILE-OPTIONS: one line for each, its name and its path. Some tests run the example md5all.
executables() {
    cargo build --quiet --example md5all "$@"
    cargo test --quiet --package gocsp --package csp-core --lib --tests --no-run --message-format=json "$@" |
        sed -n '/"profile":{[^}]*"test":true}/s/.*"executable":"\([^"]*\/\([a-z0-9_]*\)-[0-9a-f]*\)".*/\2 \1/p'
}
executables >"$results/debug"
executables --release >"$results/release"
[[ -s $results/debug && -s $results/release ]] || { echo "stress.sh: found no tests" >&2 && exit 1; }

# round NUMBER: runs the suite in that round's form.
round() {
    local number=$1 profile=debug procs backend name executable started=$SECONDS failed=0 log status
    (($1 % 2)) && profile=release
    procs=$((1 << ($1 / 2 % 3)))
    ((procs == 4)) && procs=8
    unset CSP_BACKEND
    backend=own
    (($1 / 6 % 2)) && backend=threads && export CSP_BACKEND=threads
    export GOMAXPROCS=$procs
    while read -r name executable; do
        [[ $left_out == *,$name,* ]] && continue
        # crossbeam's suite runs 32 of its tests at once. Where each goroutine is a thread those that compute, 10 ms each in
        # turn, keep one that is to act within a second from doing so.
        unset RUST_TEST_THREADS
        [[ $name == crossbeam && $backend == threads ]] && export RUST_TEST_THREADS=8
        log=$results/$number-$name
        status=0
        timeout 900 "$executable" --quiet >"$log" 2>&1 || status=$?
        if ((status == 0)); then
            rm "$log"
        else
            failed=$((failed + 1))
            echo "FAILED with $status in round $number: $name, see $log"
        fi
    done <"$results/$profile"
    printf 'round %2d: %-7s GOMAXPROCS=%d %-7s %4d s, %d failed\n' "$number" "$profile" "$procs" "$backend" \
        $((SECONDS - started)) "$failed"
    echo "$failed" >"$results/$number.failed"
}

for ((number = 0; number < rounds; number++)); do
    while (($(jobs -rp | wc -l) >= jobs)); do
        wait -n || true
    done
    (round "$number") </dev/null &
done
wait
# A round that broke off has left no count.
cat "$results"/*.failed | awk -v rounds="$rounds" '
    { sum += $1 }
    END { printf "%d of %d rounds, %d failures\n", NR, rounds, sum; exit NR != rounds || sum != 0 }
'
