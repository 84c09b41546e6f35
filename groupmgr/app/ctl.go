package app

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"

	"hotdesk/protocol/group/local"
	"hotdesk/protocol/program"
	"hotdesk/protocol/rpc"
)

// CtlCommand is the program `groupmgr ctl`.
func CtlCommand() *program.Command { return ctlCommand(io.Discard) }

func ctlCommand(stdout io.Writer) *program.Command {
	fs := flag.NewFlagSet("groupmgr ctl", flag.ContinueOnError)
	localMode := fs.Bool("local", false, "ask the group manager that runs with -local and no -runtime")
	runtime := fs.String("runtime", "", "`DIR` of the group manager's socket (empty: as groupmgr)")
	asJSON := fs.Bool("json", false, "print JSON")
	return &program.Command{
		Name:    "groupmgr ctl",
		Purpose: "shows what the group manager of this host knows",
		Usage:   "[flags] table",
		Flags:   fs,
		Run: func(ctx context.Context, args []string) error {
			if len(args) != 1 || args[0] != "table" {
				return program.Usagef("want one argument: table")
			}
			dir := *runtime
			if dir == "" {
				dir = program.RuntimeDir(*localMode)
			}
			t, err := fetchTable(ctx, filepath.Join(dir, "groupmgr.sock"))
			if err != nil {
				return err
			}
			if !*asJSON {
				_, err = io.WriteString(stdout, t.String())
				return err
			}
			e := json.NewEncoder(stdout)
			e.SetIndent("", "  ")
			return e.Encode(t)
		},
	}
}

// fetchTable reads all pages of the table.
func fetchTable(ctx context.Context, path string) (local.Table, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return local.Table{}, fmt.Errorf("groupmgr: %w; is groupmgr running, with this -runtime?", err)
	}
	c := rpc.New(conn, nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	wg.Go(func() { _ = c.Serve(ctx) }) // its end shows in Call
	var all local.Table
	for {
		var page local.Table
		if err := c.Call(ctx, local.OpTable, local.TableRequest{After: len(all.Hosts)}, &page); err != nil {
			return local.Table{}, fmt.Errorf("groupmgr: %w", err)
		}
		all.Hosts = append(all.Hosts, page.Hosts...)
		if !page.More || len(page.Hosts) == 0 {
			return all, nil
		}
	}
}
