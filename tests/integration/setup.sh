#!/bin/bash
# cmake/setup with stand-ins for the programs that it calls: what it waits for, what it shows and
# what it keeps out of sight.
cd "$(dirname "$0")/../.." || exit 1
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
failed=0
mkdir -p "$folder/cmake" "$folder/bin"
cp cmake/setup "$folder/cmake"
cd "$folder" || exit 1
export PATH=$folder/bin:$PATH
unset LIBTORCH TORCH_INDEX_URL INOCULUM_WERROR

stand_in() {  # a program, and what it does
  printf '#!/bin/bash\n%s\n' "$2" >"bin/$1"
  chmod +x "bin/$1"
}
setup() { cmake/setup "$@" >said 2>&1; }
expect() { if ! "$@"; then echo "failed: $*"; cat said; failed=1; fi; }
says() { expect grep -q "$1" said; }
keeps_quiet_of() { expect eval "! grep -q '$1' said"; }

stand_in sudo 'exec "$@"'
stand_in sleep ''
stand_in dpkg-query '[ -e installed ] && echo "install ok installed"'
stand_in apt-cache 'echo "Package: $2"'
stand_in cmake 'echo "cmake $*" >>calls
  [ "$1" = --build ] || { echo "CMake Warning: noise"; echo "-- No Gloo"; [ ! -e broken-cmake ]; }'
stand_in python3 'mkdir -p .venv/bin; cp bin/pip .venv/bin/pip'
stand_in pip 'echo "pip $*" >>calls; echo "WARNING: noise"; [ ! -e broken-pip ]'

# Each of apt's locks, as apt-get tells of it.
for step in update install; do
  rm -f tries installed calls
  stand_in apt-get "
    case \" \$* \" in *' $step '*) ;; *) exit 0 ;; esac
    echo >>tries
    [ \$(wc -l <tries) -gt 3 ] && { echo noise; touch installed; exit 0; }
    echo 'E: Could not get lock /var/lib/some/lock. It is held by process 7 (unattended-upgr)'
    echo 'E: Unable to lock directory /var/lib/some/'
    exit 100"
  expect setup
  says 'Waiting.*held by process 7 (unattended-upgr)'
  expect [ "$(grep -c Waiting said)" = 1 ]
  keeps_quiet_of 'noise\|E: '
done
says '^-- No Gloo'
expect grep -q 'torch==' calls

# An update that fails is told, and what can be installed is; what cannot is told.
rm -f installed
stand_in apt-get 'case " $* " in *" update "*) echo "E: no such mirror"; exit 100 ;; esac'
expect setup
says 'no such mirror'
stand_in apt-get 'echo "E: Unable to locate package"; exit 100'
expect eval '! setup'
says 'Unable to locate package'

# pip and CMake are heard when they fail.
touch installed broken-pip
expect eval '! setup'
says 'WARNING: noise'
rm broken-pip
touch broken-cmake
expect eval '! setup'
says 'CMake Warning: noise'

# A folder that was configured before gets what is asked for now; without a wish it is left alone.
rm -f broken-cmake calls
mkdir build && touch build/build.ninja
expect setup
expect [ "$(grep cmake calls)" = "cmake --build build --target inoculum" ]
LIBTORCH=/some/torch INOCULUM_WERROR=ON expect setup
expect grep -q -- '-DLIBTORCH:PATH=/some/torch -DINOCULUM_WERROR=ON build' calls
exit $failed
