//go:build !cgo

package ffi

// The only error of a build without cgo: everything else depends on this package.
var _ = boxlite_needs_cgo__set_CGO_ENABLED_to_1_and_install_a_C_compiler
