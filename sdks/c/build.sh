#!/usr/bin/env bash
# Builds the examples and the test programs into target/c: what `make c` does.
set -euo pipefail
cd "$(dirname "$0")/../.."
out=${CARGO_TARGET_DIR:-target}/c
library=${CARGO_TARGET_DIR:-target}/release/libboxlite.a
mkdir -p "$out"
flags=(-std=c99 -D_POSIX_C_SOURCE=200809L -g -O1 -Wall -Wextra -Wpedantic -Werror -Isdks/c/include)
for source in sdks/c/examples/*.c sdks/c/tests/*.c; do
  program=$out/$(basename "$source" .c)
  if [ "$program" -ot "$source" ] || [ "$program" -ot "$library" ] || [ "$program" -ot sdks/c/include/boxlite.h ]; then
    ${CC:-cc} "${flags[@]}" "$source" "$library" -lm -ldl -lpthread -o "$program"
  fi
done
