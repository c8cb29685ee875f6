#!/usr/bin/env bash
# Runs every fuzz target for SECONDS (default 60) each: tests/fuzz/run.sh [SECONDS] [TARGET…]
#
# libFuzzer's instrumentation is a nightly feature of rustc; RUSTC_BOOTSTRAP=1 lets the stable
# compiler take it, so that no second toolchain is needed. A crash leaves its input in artifacts/.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true
targets=("$@")
if (( ${#targets[@]} == 0 )); then
  for file in targets/*.rs; do targets+=("$(basename "$file" .rs)"); done
fi

export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
  -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
  -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing -Ccodegen-units=1" \
  cargo build --quiet --release --target x86_64-unknown-linux-gnu

for target in "${targets[@]}"; do
  printf '\033[1m== %s: %s s\033[0m\n' "$target" "$seconds"
  mkdir -p "corpus/$target" artifacts
  "$CARGO_TARGET_DIR/x86_64-unknown-linux-gnu/release/$target" "corpus/$target" \
    -max_total_time="$seconds" -artifact_prefix="artifacts/$target-" -print_final_stats=1 \
    -verbosity=0 -rss_limit_mb=2048 -timeout=10
done
