#!/usr/bin/env bash
# Runs the tests under the glibc of Debian trixie and of Debian sid, the newest there is: slots rest on what glibc keeps
# in a thread. Prints the results, and writes them to scripts/glibc-result.md.
#
#     scripts/glibc.sh FOLDER
#
# Makes a root of each release below FOLDER, by debootstrap, from the mirror that apt is set up for; one that is there is
# used again (delete it to get today's). The tests are built here, in release, and run there: the glibc here must not be
# newer. Needs to be root. Not part of .ci/run.
set -euo pipefail

folder=${1:?usage: scripts/glibc.sh FOLDER}
mkdir -p "$folder"
folder=$(realpath "$folder")
cd "$(dirname "$0")/.."
result=$PWD/scripts/glibc-result.md
releases=(trixie sid)

if ((EUID != 0)); then
    echo "glibc.sh: only root can make a root and run in it" >&2
    exit 1
fi
if ! command -v debootstrap >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq debootstrap
fi
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' 'Label: Debian' | head -n 1)
: "${mirror:?apt is set up for no Debian mirror}"

for release in "${releases[@]}"; do
    if [[ ! -d $folder/$release ]]; then
        rm -rf "$folder/$release.part"
        debootstrap --variant=minbase "$release" "$folder/$release.part" "$mirror"
        mv "$folder/$release.part" "$folder/$release"
    fi
    # The smallest root has no names of hosts; the tests look this one up.
    grep -qs localhost "$folder/$release/etc/hosts" || echo "127.0.0.1 localhost" >>"$folder/$release/etc/hosts"
done

# Lists the executables of tests that cargo has built. Not `ui`, which compiles, nor `crossbeam_api`, which reads sources.
executables() {
    sed -n '/"test":true},"features"/s/.*"executable":"\([^"]*\)".*/\1/p' | grep -vE '/(ui|crossbeam_api)-[0-9a-f]*$'
}
# The example is what the tests of md5all run.
cargo build --release --quiet --example md5all
messages=$(cargo test --release --no-run --message-format=json --package gocsp --package csp-core --lib --tests)
mapfile -t tests < <(executables <<<"$messages")
((${#tests[@]})) || { echo "glibc.sh: cargo has built no tests" >&2; exit 1; }
example=$(dirname "${tests[0]}")/../examples/md5all

# Runs a command in a root, with mounts that go with it. The tests are at the path that they have here.
inside() {
    unshare --mount --propagation private -- sh -euc '
        root=$1
        shift
        mount -t proc proc "$root/proc"
        mount --rbind /dev "$root/dev"
        mount -t tmpfs tmpfs "$root/tmp"
        exec chroot "$root" env -i PATH=/usr/bin:/usr/sbin:/bin:/sbin HOME=/root LC_ALL=C.UTF-8 \
            CSP_TEST_LIBRARIES=/csp "$@"
    ' sh "$@"
}

failed=0
report=$(mktemp)
trap 'rm -f "$report"' EXIT
{
    echo "# The tests under other releases of glibc"
    echo
    echo "The last result of \`scripts/glibc.sh\`, which writes this file."
    echo
    echo "- Date: $(date -u +%Y-%m-%d)"
    echo "- Commit: $(git rev-parse --short HEAD)$(git diff --quiet HEAD -- '*.rs' || echo ', with changes')"
    echo "- Kernel: $(uname -srm), $(nproc) CPUs"
    echo "- Built with $(rustc --version), glibc $(getconf GNU_LIBC_VERSION | cut -d' ' -f2), --release"
} >>"$report"

for release in "${releases[@]}"; do
    root=$folder/$release
    glibc=$(inside "$root" getconf GNU_LIBC_VERSION | cut -d' ' -f2)
    printf '\n## Debian %s, glibc %s\n\n| tests | result |\n|---|---|\n' "$release" "$glibc" >>"$report"
    echo "==> Debian $release, glibc $glibc, $(uname -sr)"
    rm -rf "$root/csp"
    mkdir -p "$root/csp/release/deps" "$root/csp/release/examples"
    cp "$example" "$root/csp/release/examples/"
    # There is no compiler for them in there.
    for initial in 77 {100..123}; do
        cc -shared -fPIC -O1 "-DINITIAL=$initial" -o "$root/csp/lib$initial.so" tests/support/thread_locals.c
    done
    for test in "${tests[@]}"; do
        name=$(basename "$test" | sed 's/-[0-9a-f]*$//')
        cp "$test" "$root/csp/release/deps/"
        status=0
        output=$(inside "$root" sh -c 'cd /csp && exec timeout 600 "$@"' sh \
            "/csp/release/deps/$(basename "$test")" </dev/null 2>&1) || status=$?
        line=$(grep '^test result:' <<<"$output" | tail -n 1 | sed 's/^test result: //; s/; finished.*//') || true
        if ((status != 0)); then
            failed=1
            printf '%s\n' "$output" | tail -n 60
            line="${line:-no result} (exit status $status)"
        fi
        printf '    %-16s %s\n' "$name" "$line"
        printf '| %s | %s |\n' "$name" "$line" >>"$report"
    done
done
cp "$report" "$result"
echo "==> written to scripts/glibc-result.md"
exit "$failed"
