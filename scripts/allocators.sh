#!/usr/bin/env bash
# What a parked goroutine that has allocated 100 bytes costs, and an allocation with its release in a goroutine, one at a time
# and a thousand before the first is freed, under three allocators, each alone and below csp::alloc::PerWorker. Medians of 5 runs, in turns. Prints a table, and writes it to
# benches/results/allocators.md.
set -euo pipefail
cd "$(dirname "$0")/.."

declare -A program
for inner in system jemalloc mimalloc; do
    for adapter in alone per-worker; do
        features=
        [ $inner = system ] || features=$inner
        [ $adapter = alone ] || features="$features per-worker"
        target=target/allocators/$inner-$adapter
        cargo build --quiet --release --manifest-path benches/allocators/Cargo.toml --target-dir $target --features "$features"
        program[$inner-$adapter]=$target/release/allocators
    done
done

samples=$(mktemp -d)
trap 'rm -r "$samples"' EXIT
for _ in 1 2 3 4 5; do
    for what in parked one many; do
        for name in "${!program[@]}"; do
            "${program[$name]}" $what >>"$samples/$name-$what"
        done
    done
done

median() {
    sort -n "$samples/$1" | sed -n 3p
}

mkdir -p benches/results
{
    echo -n "| allocator | bytes a parked goroutine | with \`PerWorker\` | ns to allocate and free | with \`PerWorker\` |"
    echo " the same, 1,000 at once | with \`PerWorker\` |"
    echo "|---|---|---|---|---|---|---|"
    for inner in system jemalloc mimalloc; do
        echo "| $inner | $(median $inner-alone-parked) | $(median $inner-per-worker-parked) |" \
            "$(median $inner-alone-one) | $(median $inner-per-worker-one) |" \
            "$(median $inner-alone-many) | $(median $inner-per-worker-many) |"
    done
    echo
    echo "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), Linux $(uname -r | cut -d- -f1), $(date +%F);" \
        "made by \`scripts/allocators.sh\`."
} | tee benches/results/allocators.md
