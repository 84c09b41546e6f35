package app

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"hotdesk": func() { os.Exit(Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) },
		"office":  func() { os.Exit(office(os.Args[1:])) },
	})
}

// TestScripts runs the program against the real API with a registry in memory;
// `office DIR NAME` is that gateway, without terminals.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(e *testscript.Env) error {
			dir, err := os.MkdirTemp("", "hd") // a socket's path is short
			if err != nil {
				return err
			}
			e.Defer(func() { os.RemoveAll(dir) })
			e.Setenv("D", dir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"await": await, // await FILE [TEXT]: waits until it is there, and has the text
			"exits": exits, // exits CODE PROGRAM ARGS: with that code
		},
	})
}
