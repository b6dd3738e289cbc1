#!/usr/bin/env bash
# Runs the test suite in the dense mode: on the switch of our own, and on the `generator` crate.
#
#     scripts/dense.sh [CARGO TEST OPTIONS]      --release, for example
#
# Left out, since the dense mode is just what they are not about:
#   identity, thread_locals   every goroutine has thread-locals of its own
#   channel_memory            counts by thread-local counters what each goroutine allocates
set -euo pipefail
cd "$(dirname "$0")/.."

tests=()
for file in tests/*.rs; do
    case $(basename "$file" .rs) in
        identity | thread_locals | channel_memory) ;;
        *) tests+=(--test "$(basename "$file" .rs)") ;;
    esac
done
cargo build --quiet --example md5all "$@"
for backend in dense generator; do
    echo "-- CSP_BACKEND=$backend"
    CSP_BACKEND=$backend cargo test --quiet "$@" "${tests[@]}"
done
