// Command admin is what an administrator of Hotdesk types; it is installed as
// `hotdesk`.
package main

import (
	"os"

	"hotdesk/tools/admin/app"
)

func main() { os.Exit(app.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
