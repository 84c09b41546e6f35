package app

import (
	"context"
	"io"
)

// Ctl is the program `dtu ctl` for those who call it often: the same words,
// without a process for each.
func Ctl(ctx context.Context, args []string, stdout io.Writer) error {
	c := ctlCommand(stdout)
	c.Flags.SetOutput(io.Discard) // the error says it
	if err := c.Flags.Parse(args); err != nil {
		return err
	}
	return c.Run(ctx, c.Flags.Args())
}
