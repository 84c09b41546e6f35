// Command server is the gateway of a host, and the parent that starts its
// sessions.
package main

import (
	"os"

	"hotdesk/server/app"
)

func main() { os.Exit(app.Main(os.Args[1:], os.Stdout, os.Stderr)) }
