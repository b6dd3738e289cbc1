#!/usr/bin/env bash
# Runs the test suite in the dense mode: on the switch of our own, and on the `generator` crate.
#
#     scripts/dense.sh [--core] [CARGO TEST OPTIONS]      --release, for example
#
#   --core    only a few files of tests: those about stacks and goroutines, and one for each of the other things
#
# Left out, since the dense mode is just what they are not about:
#   identity, thread_locals   every goroutine has thread-locals of its own
#   channel_memory            counts by thread-local counters what each goroutine allocates
set -euo pipefail
cd "$(dirname "$0")/.."

core="alloc channel goroutines select_dynamic stack wait_group"
if [ "${1:-}" = --core ]; then
    shift
else
    core=
fi
tests=()
for file in tests/*.rs; do
    name=$(basename "$file" .rs)
    case $name in
        identity | thread_locals | channel_memory) ;;
        *) [ -n "$core" ] && ! [[ " $core " = *" $name "* ]] || tests+=(--test "$name") ;;
    esac
done
cargo build --quiet --example md5all "$@"
for backend in dense generator; do
    echo "-- CSP_BACKEND=$backend"
    CSP_BACKEND=$backend cargo test --quiet "$@" "${tests[@]}"
done
