//go:build cgo && linux && amd64 && !boxlite_pkgconfig

package ffi

// The archive lies in the folder of a package, and this import makes it part of this one:
// `go mod vendor` copies the folders of imported packages, with all that is in them.
import _ "github.com/boxlite-ai/boxlite/sdks/go/lib/linux_amd64"
