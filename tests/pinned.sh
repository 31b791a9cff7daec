# Sourced: `program=$(pinned NAME VERSION)`, where pip put it or on the path; without that version
# the script ends as skipped, for versions differ in what they say.
pinned() {
  local each python=${INOCULUM_PYTHON:-}
  for each in .venv/bin/"$1" .venv-hf/bin/"$1" ${python:+"$(dirname "$python")/$1"} "$1"; do
    if [[ $("$each" --version 2>/dev/null) == *"$2"* ]]; then
      echo "$each"
      return
    fi
  done
  echo "SKIPPED: there is no $1 $2" >&2
  return 77
}
