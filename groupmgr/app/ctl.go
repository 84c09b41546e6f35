package app

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

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
	deadline := fs.Duration("deadline", 0, "`TIME` after which a host that goes offline is down by itself (0: never)")
	return &program.Command{
		Name:    "groupmgr ctl",
		Purpose: "shows what the group manager of this host knows, and takes the host out of the group's work and back",
		Usage: "[flags] table   # the hosts of the group\n" +
			"[flags] status  # keys, peers, hosts that something is wrong with, counters\n" +
			"[flags] online  # take new sessions\n" +
			"[flags] offline [-deadline TIME]  # drain: keep the sessions that are here, take no new ones\n" +
			"[flags] down    # as offline, and the sessions that are here are to end",
		Flags: fs,
		Run: func(ctx context.Context, args []string) error {
			verbs := []string{"table", "status", local.Online, local.Offline, local.Down}
			if len(args) == 0 || !slices.Contains(verbs, args[0]) {
				return program.Usagef("want one of: %s", strings.Join(verbs, ", "))
			}
			verb := args[0]
			if err := fs.Parse(args[1:]); err != nil { // flags may stand behind it too
				return program.Usagef("%v", err)
			}
			if fs.NArg() > 0 {
				return program.Usagef("unknown argument %q", fs.Arg(0))
			}
			request := local.StateRequest{State: verb, Within: int64(deadline.Round(time.Second) / time.Second)}
			if verb == "table" || verb == "status" {
				request = local.StateRequest{State: local.Online, Within: request.Within}
			}
			if err := request.Check(); err != nil || *deadline != 0 && request.Within == 0 {
				return program.Usagef("-deadline %v: for offline only, from 1s to %v", *deadline, local.MaxDrain)
			}
			dir := *runtime
			if dir == "" {
				dir = program.RuntimeDir(*localMode)
			}
			var answer fmt.Stringer
			err := ask(ctx, filepath.Join(dir, "groupmgr.sock"), func(c *rpc.Conn) (err error) {
				switch verb {
				case "table":
					answer, err = fetchTable(ctx, c)
				case "status":
					answer, err = fetch[local.Status](ctx, c, local.OpStatus, nil)
				default:
					answer, err = fetch[local.State](ctx, c, local.OpState, request)
				}
				return err
			})
			if err != nil {
				return err
			}
			if !*asJSON {
				_, err = io.WriteString(stdout, strings.TrimSuffix(answer.String(), "\n")+"\n")
				return err
			}
			e := json.NewEncoder(stdout)
			e.SetIndent("", "  ")
			return e.Encode(answer)
		},
	}
}

// ask runs f over a connection to the group manager.
func ask(ctx context.Context, path string, f func(*rpc.Conn) error) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("groupmgr: %w; is groupmgr running, with this -runtime?", err)
	}
	c := rpc.New(conn, nil)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer c.Close()
	wg.Go(func() { _ = c.Serve(ctx) }) // its end shows in Call
	if err := f(c); err != nil {
		return fmt.Errorf("groupmgr: %w", err)
	}
	return nil
}

func fetch[T any](ctx context.Context, c *rpc.Conn, op string, in any) (out T, err error) {
	err = c.Call(ctx, op, in, &out)
	return out, err
}

// fetchTable reads all pages of the table.
func fetchTable(ctx context.Context, c *rpc.Conn) (all local.Table, err error) {
	for {
		page, err := fetch[local.Table](ctx, c, local.OpTable, local.TableRequest{After: len(all.Hosts)})
		if err != nil {
			return local.Table{}, err
		}
		all.Hosts = append(all.Hosts, page.Hosts...)
		if !page.More || len(page.Hosts) == 0 {
			return all, nil
		}
	}
}
