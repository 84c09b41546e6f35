// Command groupmgr is a host's group manager: it finds the other hosts, finds
// sessions in the group and answers terminals that look for a server.
package main

import (
	"os"

	"hotdesk/groupmgr/app"
)

func main() { os.Exit(app.Main(os.Args[1:], os.Stdout, os.Stderr)) }
