// Command session keeps one desktop session; server starts it.
package main

import (
	"os"

	"hotdesk/server/session/app"
)

func main() { os.Exit(app.Main(os.Args[1:], os.Stdout, os.Stderr)) }
