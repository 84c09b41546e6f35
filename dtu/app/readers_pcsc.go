//go:build pcsc

package app

import (
	"context"
	"log/slog"

	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/pcsc"
)

func init() {
	openers[readersPCSC] = func(context.Context, *slog.Logger) (reader.Source, error) { return pcsc.Open(nil) }
}
