#!/usr/bin/env bash
# Compares md5all with md5sum on a generated tree of 50,000 files, at GOMAXPROCS 1, 2 and 8.
#
#   scripts/md5all-large.sh [-n FILES] [-d DIR] [MD5ALL]
#
#   -n FILES  how many files to make (50,000)
#   -d DIR    compare on this tree instead, /usr for example
#   MD5ALL    the program to test, instead of the release build of the example; that of benches/go/md5all for example
set -euo pipefail

files=50000
dir=
while getopts n:d:h option; do
    case $option in
        n) files=$OPTARG ;;
        d) dir=$OPTARG ;;
        h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

root=$(cd "$(dirname "$0")/.." && pwd)
md5all=${1:-}
if [[ -z $md5all ]]; then
    (cd "$root" && cargo build --quiet --release --example md5all)
    md5all=${CARGO_TARGET_DIR:-$root/target}/release/examples/md5all
fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# Sizes as in source trees: mostly a few kilobytes, some files empty, some of megabytes. Names with everything in them.
make_tree() {
    python3 - "$1" "$files" <<'PYTHON'
import os, random, sys

root, files = os.fsencode(sys.argv[1]), int(sys.argv[2])
random.seed(1)
noise = random.randbytes(1 << 20)
odd = [b" ", b"\n", b"\\", b"'\"", b"\xff\xfe", "ü".encode(), b"\t", b"-"]
directories = [root]
for i in range(files):
    if i % 25 == 0:
        directories.append(os.path.join(random.choice(directories), b"d%d" % i + (random.choice(odd) if i % 500 == 0 else b"")))
        os.makedirs(directories[-1])
    size = 0 if i % 100 == 0 else int(random.lognormvariate(8.5, 1.5))
    if i % 5000 == 0:
        size = 3_000_000 + i
    start = random.randrange(1 << 19)
    name = b"f%d" % i + (random.choice(odd) if i % 50 == 0 else b"")
    with open(os.path.join(directories[-1], name), "wb") as f:
        while size > 0:
            f.write(noise[start:start + size])
            size -= len(noise) - start
        f.write(b"%d" % i if i % 100 else b"")
PYTHON
}

if [[ -z $dir ]]; then
    dir=$scratch/tree
    mkdir "$dir"
    make_tree "$dir"
fi

find "$dir" -type f -print0 | LC_ALL=C sort -z | xargs -0 --no-run-if-empty md5sum -- > "$scratch/expected"
echo "$(wc -l < "$scratch/expected") files, $(du -sh --apparent-size "$dir" | cut -f1)"
TIMEFORMAT='%R s wall, %U s user, %S s system'
for procs in 1 2 8; do
    echo -n "GOMAXPROCS=$procs: "
    { time GOMAXPROCS=$procs "$md5all" "$dir" > "$scratch/got"; } 2>&1
    cmp "$scratch/expected" "$scratch/got"
done
echo "the same as md5sum, to the byte"
