#!/bin/bash
# clang-tidy over every source of the program, or over those that are named; .clang-tidy has the
# checks. They differ from version to version, so it takes the one named here:
# `.venv/bin/pip install clang-tidy==23.1.4`. build/ must be configured.
version=23.1.4
cd "$(dirname "$0")/.." || exit 1
. tests/pinned.sh
program=$(pinned clang-tidy "$version") || exit
# LibTorch's headers include omp.h, which GCC keeps beside its own.
headers=$(mktemp -d) || exit 1
trap 'rm -rf "$headers"' EXIT
cp "$(g++ -print-file-name=include)/omp.h" "$headers/" || exit 1
if [ $# -gt 0 ]; then
  printf '%s\n' "$@"
else
  git ls-files core datasets training experiments | grep '\.cpp$'
fi |
  xargs -P "$(nproc)" -I{} "$program" -p build --quiet --extra-arg=-w --extra-arg="-I$headers" {} \
    2>/dev/null
