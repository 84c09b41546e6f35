// Command fleet runs many emulated terminals and the people at them against
// real programs, breaks things meanwhile, and judges every picture.
package main

import (
	"os"

	"hotdesk/tools/fleet/app"
)

func main() { os.Exit(app.Main(os.Args[1:], os.Stdout, os.Stderr)) }
