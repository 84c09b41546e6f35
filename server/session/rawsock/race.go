//go:build race

package rawsock

import (
	"runtime"
	"unsafe"
)

// order is what the race detector is told, as by package syscall: what was done
// before something was written to a socket comes before what is done after
// something was read from one.
var order int

func written() { runtime.RaceReleaseMerge(unsafe.Pointer(&order)) }
func read()    { runtime.RaceAcquire(unsafe.Pointer(&order)) }
