// Command dtu is a terminal.
package main

import (
	"os"

	"hotdesk/dtu/app"
)

func main() { os.Exit(app.Main(os.Args[1:], os.Stdout, os.Stderr)) }
