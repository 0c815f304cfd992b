// Package ffi is the only place where Go meets C: each function calls the function of
// boxlite.h with the same name and turns its results into Go values. None of them blocks.
//
// The header in this folder is a copy of sdks/c/include/boxlite.h, so that this module can be
// used by itself and vendored; `make go` copies it, and a test compares the two.
package ffi
