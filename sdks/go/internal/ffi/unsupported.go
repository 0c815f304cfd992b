//go:build cgo && !(linux && amd64) && !boxlite_pkgconfig

package ffi

// There is no static library for this platform beside this package.
var _ = boxlite_supports_linux_amd64_only__use_the_tag_boxlite_pkgconfig_for_a_library_of_your_own
