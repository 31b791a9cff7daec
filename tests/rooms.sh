#!/bin/sh
# Which room may include which: core ← datasets, core ← training, all ← experiments. Tests see all.
cd "$(dirname "$0")/.." || exit 1
bad=0
check() {  # room, rooms that it must not include
  found=$(grep -rnE "#include \"($2)/" "$1" --include=*.h --include=*.cpp)
  if [ -n "$found" ]; then echo "$1 must not include $2:"; echo "$found"; bad=1; fi
}
check core 'datasets|training|experiments|tests'
check datasets 'training|experiments|tests'
check training 'datasets|experiments|tests'
check experiments 'tests'
# Every include of ours names its room.
found=$(grep -nE '#include "[^/"]+"' ./{core,datasets,training,experiments,tests}/*.{h,cpp} ./core/*/*.{h,cpp})
if [ -n "$found" ]; then echo "includes without a room:"; echo "$found"; bad=1; fi
exit $bad
