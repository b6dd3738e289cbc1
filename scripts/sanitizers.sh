#!/usr/bin/env bash
# Runs the tests under AddressSanitizer and ThreadSanitizer, and checks that ThreadSanitizer finds a race that is there
# on purpose (tests/race.rs) and names both goroutines.
#
#     scripts/sanitizers.sh [address | thread | race]...      all three unless some are named
#
# Needs a nightly toolchain, and is skipped where there is none. `thread` builds std too, which needs the component
# rust-src, and is skipped without it (or with PREBUILT_STD=1): what the locks, channels and thread handles of a std
# that is not instrumented order, ThreadSanitizer does not see, and it reports races that are none. `race` needs no
# such std.
#
# What ThreadSanitizer cannot find: races of goroutines that take turns on one worker, since each switch orders what was
# done before it with what comes after (csp-core/src/tsan.rs). So there are several processors.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo +nightly --version >/dev/null 2>&1; then
    echo "sanitizers: skipped: no nightly toolchain is installed (rustup toolchain install nightly)"
    exit 0
fi
triple=x86_64-unknown-linux-gnu
if [[ $(rustc +nightly -vV | sed -n 's/^host: //p') != "$triple" ]]; then
    echo "sanitizers: skipped: set up for $triple alone"
    exit 0
fi
targets=$(realpath -m "${CARGO_TARGET_DIR:-target}")/sanitizers
mkdir -p "$targets"
export GOMAXPROCS=${GOMAXPROCS:-4} RUST_BACKTRACE=0 CARGO_TERM_COLOR=never
unset CSP_BACKEND

# --- Tests that cannot run so
# FILE or FILE/TEST, and why. TEST is a part of the name.

skipped_always=(
    "blocking: asserts that nobody waits for more than milliseconds, of which a sanitizer takes many"
    "ui: compiles programs that must not compile; nothing of ours runs"
    "memory: measures memory, and a sanitizer takes its own; needs more stacks than ThreadSanitizer has threads"
    "stress: limits the address space, of which a sanitizer takes terabytes"
    "channel_large: messages that just fit on the stack, and the sanitizer's frames are larger"
    "channel_memory: measures memory"
    "golang/select2: measures memory"
    "golang/select5: hundreds of selects in a function, and the sanitizer's frames are larger"
    "select_fairness: draws millions of times, in code that the other tests run too"
    "crossbeam_api: compares sources; nothing of ours runs"
    "stack/overflow: the sanitizer's frames use up the stack at other depths, and it has a handler for SIGSEGV itself"
    "stack/other_faults: the sanitizer has a handler for SIGSEGV, and reports what was to end the process"
    "stack/sizes: the sanitizer's frames are larger than those that the sizes are made for"
    "stack/older_machines::report_overflow: as stack/overflow"
    "stack/older_machines::guards_without_mappings: counts mappings, and the sanitizer makes some"
)
skipped_address=(
    "identity/pthread_self_is_constant: looks for a local on the stack; AddressSanitizer keeps locals elsewhere"
    "stack/older_machines::run_goroutines: measures the stack by the addresses of locals, as above"
    "libraries/thread_locals_with_a_large_alignment: looks for a local on the stack, as above"
)
skipped_thread=(
    "deadlock: the sanitizer has a thread of its own, and while there is one no deadlock is reported"
    "identity/c::credentials: setuid's signal reaches the sanitizer's own thread, where our handler may not run"
    "stack/older_machines::change_credentials: as identity/c::credentials"
    "identity/recursive_and_error_checking_mutexes: unlocks a mutex of somebody else's on purpose, which is reported"
    "thread_locals/ten_thousand: has more threads and fibers than the 8,128 that ThreadSanitizer knows"
)

# In CI, which has little time, and where the same code runs in the other tests.
if [[ -n ${SHORT:-} ]]; then
    skipped_always+=("crossbeam: the longest of all; scripts/sanitizers.sh without SHORT=1 runs it")
fi

# --- The work

# build SANITIZER [CARGO ARGUMENT]...: builds tests, and lists their executables.
build() {
    local sanitizer=$1 flags="-Zsanitizer=$1" std=() messages
    shift
    if [[ $sanitizer == thread ]]; then
        flags+=" --cfg csp_tsan"
        if [[ $std_built == yes ]]; then
            std=(-Zbuild-std)
        else
            # The prebuilt std is not made for it, which rustc would refuse.
            flags+=" -Cunsafe-allow-abi-mismatch=sanitizer"
        fi
    fi
    if [[ $sanitizer == address ]]; then
        flags+=" --cfg csp_asan"
    fi
    export RUSTFLAGS=$flags CARGO_TARGET_DIR=$targets/$sanitizer${std:+-std}
    # The example is what the tests of md5all run.
    cargo +nightly build --quiet "${std[@]}" --target "$triple" --example md5all
    messages=$(cargo +nightly test --quiet "${std[@]}" --target "$triple" --no-run --message-format=json "$@")
    sed -n '/"test":true},"features"/s/.*"executable":"\([^"]*\)".*/\1/p' <<<"$messages"
}

# suite SANITIZER: runs all tests but those that cannot run.
suite() {
    local sanitizer=$1 executables executable name line what skip whole status=0
    local -n more=skipped_$sanitizer
    if [[ $sanitizer == thread && $std_built == no ]]; then
        echo "    skipped: std cannot be built (rustup component add --toolchain nightly rust-src)"
        return 0
    fi
    executables=$(build "$sanitizer" --package gocsp --package csp-core --lib --tests)
    for executable in $executables; do
        name=$(basename "$executable" | sed 's/-[0-9a-f]*$//')
        skip=() whole=
        for line in "${skipped_always[@]}" "${more[@]}"; do
            what=${line%%: *}
            [[ $what == "$name" ]] && whole=${line#*: }
            [[ $what == "$name"/* ]] && skip+=(--skip "${what#*/}") && echo "    skipped: $line"
        done
        if [[ $whole ]]; then
            echo "    skipped: $name: $whole"
            continue
        fi
        if ! timeout 600 "$executable" --quiet "${skip[@]}" >"$targets/output" 2>&1; then
            cat "$targets/output"
            status=1
        fi
        printf '    %-16s %s\n' "$name" \
            "$(grep '^test result:' "$targets/output" | tail -n 1 | sed 's/^test result: //; s/; finished.*//')"
    done
    return "$status"
}

# The race that is there on purpose: both accesses and both goroutines must be in one report.
race() {
    local executable output
    executable=$(build thread --package gocsp --test race)
    output=$("$executable" --ignored two_goroutines_without_a_lock 2>&1) || true
    for part in "WARNING: ThreadSanitizer: data race" "race::Shared>::count" \
        "'goroutine [0-9]* fetch'" "'goroutine [0-9]* store'"; do
        if ! grep -q "$part" <<<"$output"; then
            printf '%s\n' "$output"
            echo "sanitizers: no '$part' in the report of the race that is there on purpose" >&2
            return 1
        fi
    done
    grep -m 2 "Thread T[0-9]* 'goroutine" <<<"$output" | sed 's/^ */    found: /'
}

std_built=no
if [[ -z ${PREBUILT_STD:-} ]]; then
    rustup component add --toolchain nightly rust-src >/dev/null 2>&1 || true
    [[ -e $(rustc +nightly --print sysroot)/lib/rustlib/src/rust/library/Cargo.lock ]] && std_built=yes
fi
# Memory that only the stacks of parked goroutines refer to looks leaked: no kernel thread runs there.
export ASAN_OPTIONS=detect_leaks=0
export TSAN_OPTIONS=exitcode=66

failed=0
for part in "${@:-address thread race}"; do
    for part in $part; do
        case $part in
            address) echo "==> AddressSanitizer, $(rustc +nightly --version)" && { (suite address) || failed=1; } ;;
            thread) echo "==> ThreadSanitizer, std instrumented: $std_built" && { (suite thread) || failed=1; } ;;
            race) echo "==> ThreadSanitizer, a race that is there on purpose" && { (race) || failed=1; } ;;
            *) echo "usage: scripts/sanitizers.sh [address | thread | race]..." >&2 && exit 2 ;;
        esac
    done
done
exit "$failed"
