package boxlite

import "github.com/boxlite-ai/boxlite/sdks/go/internal/ffi"

// Version is the version of the library that is linked in, such as "0.1.0".
func Version() string { return ffi.Version() }
