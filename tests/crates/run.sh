#!/usr/bin/env bash
# The crates below this folder use csp under other names, through a re-export, without the facade, and in edition 2021.
# They are members of the workspace: `cargo test --workspace` runs them too.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo test --quiet --package 'csp-test-*'
