// Package lib holds libboxlite.a for Linux on x86_64, which `make go` puts here, so that it is
// vendored with the module. There is nothing to import it for.
package lib
