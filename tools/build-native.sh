#!/bin/sh
# Builds what is written in C into build/: the preload library, the API's library and the launcher.
# KQTIME_DEBUG=1: the API's library prints what it does to stderr. An artefact is rebuilt only when
# one of its sources is newer. CC names the compiler, CFLAGS adds to its options. A warning does not
# end the build: compilers and headers that come after us warn of more; the tests build with -Werror.
set -eu

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd)
out=${KQTIME_BUILD_DIR:-$root/build}
cc=${CC:-cc}
cflags="-std=gnu11 -O2 -Wall -Wextra -Wshadow"
# Fortified headers define the functions that we replace.
cflags="$cflags -U_FORTIFY_SOURCE ${CFLAGS:-}"

mkdir -p "$out"

# stale TARGET SOURCE…: is there no target, or a source that is newer?
stale() {
  target=$1
  shift
  [ -e "$target" ] || return 0
  [ -n "$(find "$@" -newer "$target" 2>/dev/null | head -n 1)" ]
}

# Writes beside the target and renames, so that a process that has it mapped keeps its own.
build() {
  target=$1
  shift
  if ! "$@" -o "$target.new$$"; then
    rm -f "$target.new$$"
    echo "build-native: $target could not be built with '$cc' (Debian, Ubuntu: apt install" \
      "gcc libc6-dev; Fedora: dnf install gcc glibc-devel)" >&2
    exit 1
  fi
  mv -f "$target.new$$" "$target"
}

if ! command -v "${cc%% *}" >/dev/null 2>&1; then
  echo "build-native: no C compiler '$cc' (Debian, Ubuntu: apt install gcc libc6-dev;" \
    "Fedora: dnf install gcc glibc-devel)" >&2
  exit 1
fi

self=$root/tools/build-native.sh
layout=$root/c/kqtime_shm.h

library=$out/libkqtime-preload.so
if stale "$library" "$root"/preload/*.[chS] "$root/preload/exports.map" \
  "$layout" "$self"; then
  # shellcheck disable=SC2086
  build "$library" $cc $cflags -shared -fPIC -fvisibility=hidden -ftls-model=initial-exec \
    -fexceptions -fno-stack-protector \
    -Wl,-soname,libkqtime-preload.so -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack \
    -Wl,-z,nodelete -Wl,--no-undefined -Wl,--version-script="$root/preload/exports.map" \
    "$root"/preload/*.c "$root"/preload/*.S -ldl
fi

# Says of which kind the API's library is that is there.
kind=$out/.debug-${KQTIME_DEBUG:-0}
if [ ! -e "$kind" ]; then
  rm -f "$out"/.debug-* "$out/libkqtime.so"
  : >"$kind"
fi
debug=
if [ "${KQTIME_DEBUG:-0}" != 0 ]; then debug="-DKQTIME_DEBUG -g"; fi

api=$out/libkqtime.so
if stale "$api" "$root"/c/*.h "$root/c/libkqtime.c" "$root/c/collector.c" "$root/c/log_file.c" \
  "$root/c/process.c" "$root/c/spawn.c" "$root/c/exports.map" "$root/preload/raw.h" "$self"; then
  # shellcheck disable=SC2086
  build "$api" $cc $cflags $debug -shared -fPIC -fvisibility=hidden -pthread \
    -Wl,-soname,libkqtime.so -Wl,-z,now -Wl,-z,relro -Wl,-z,noexecstack -Wl,-z,nodelete \
    -Wl,--no-undefined -Wl,--version-script="$root/c/exports.map" \
    "$root/c/libkqtime.c" "$root/c/collector.c" "$root/c/log_file.c" "$root/c/process.c" \
    "$root/c/spawn.c" -ldl
fi

launcher=$out/kqtime-launch
if stale "$launcher" "$root/c/launch.c" "$self"; then
  # shellcheck disable=SC2086
  build "$launcher" $cc $cflags "$root/c/launch.c"
fi
