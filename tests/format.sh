#!/bin/bash
# C++ is as clang-format has it, in 100 columns; so wide are CMake's files and the shell's too.
# Versions differ in what they write, so it takes the one named here:
# `.venv/bin/pip install clang-format==23.1.5`. With --fix it formats.
version=23.1.5
cd "$(dirname "$0")/.." || exit 1
. tests/pinned.sh
program=$(pinned clang-format "$version") || exit
mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.h' '*.cpp')
((${#files[@]})) || { echo "SKIPPED: git lists no files here"; exit 77; }
if [ "$1" = --fix ]; then exec "$program" -i "${files[@]}"; fi
"$program" --dry-run --Werror "${files[@]}" || { echo "tests/format.sh --fix mends this"; exit 1; }
mapfile -t others < <(git ls-files '*CMakeLists.txt' CMakePresets.json cmake .ci tests/integration \
  '*.sh' reproduce run_tests)
if LC_ALL=C.UTF-8 grep -nE '^.{101}' "${files[@]}" "${others[@]}"; then
  echo "longer than 100 columns"
  exit 1
fi
