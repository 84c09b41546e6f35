package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"

	"hotdesk/protocol/program"
	"hotdesk/smartcard/reader"
	"hotdesk/smartcard/reader/emulated"
	"hotdesk/smartcard/reader/usbfs"
	"hotdesk/smartcard/reader/vpcd"
)

// Kinds of readers.
const (
	readersEmulated = "emulated"
	readersVPCD     = "vpcd"
	readersPCSC     = "pcsc"
	readersUSB      = "usb"
	readersUSBFS    = "usbfs"
	readersNone     = "none"
)

var readerKinds = []string{readersEmulated, readersVPCD, readersPCSC, readersUSB, readersUSBFS, readersNone}

// openers open the readers of a kind. Those that need cgo put themselves in
// where the build has it.
var openers = map[string]func(ctx context.Context, log *slog.Logger) (reader.Source, error){
	readersUSBFS: usbfs.Open,
}

// parseReaders reads the value of -readers.
func parseReaders(s string) ([]string, error) {
	var kinds []string
	for k := range strings.SplitSeq(s, ",") {
		k = strings.TrimSpace(k)
		if !slices.Contains(readerKinds, k) || slices.Contains(kinds, k) {
			return nil, fmt.Errorf("%q: each at most once of %s", k, strings.Join(readerKinds, ", "))
		}
		kinds = append(kinds, k)
	}
	if len(kinds) > 1 && slices.Contains(kinds, readersNone) {
		return nil, fmt.Errorf("%q: none goes alone", s)
	}
	return kinds, nil
}

// checkReaders tells what is wrong with the readers, and completes them.
func (c *Config) checkReaders() error {
	if len(c.Readers) == 0 {
		if c.Cards != "" {
			c.Readers = append(c.Readers, readersEmulated)
		}
		if c.CardSocket != "" {
			c.Readers = append(c.Readers, readersVPCD)
		}
		if len(c.Readers) == 0 {
			c.Readers = []string{readersNone}
		}
	}
	files, programs := slices.Contains(c.Readers, readersEmulated), slices.Contains(c.Readers, readersVPCD)
	switch {
	case files && c.Cards == "":
		return program.Usagef("-readers emulated without -cards: which folder has the cards?")
	case !files && c.Cards != "":
		return program.Usagef("-cards without -readers emulated: there is no reader that they fit")
	case programs && c.CardSocket == "":
		return program.Usagef("-readers vpcd without -card-socket: where do card programs connect?")
	case !programs && c.CardSocket != "":
		return program.Usagef("-card-socket without -readers vpcd: there is no reader that it belongs to")
	}
	return nil
}

// A readerSet is all that the terminal has to put cards into.
type readerSet struct {
	emulated *emulated.Reader // nil: none
	sources  []reader.Source
	sockets  []func() // remove what sources listen at
}

// openReaders opens them all.
func (c *Config) openReaders(ctx context.Context) (set readerSet, err error) {
	defer func() {
		if err != nil {
			set.close()
			set = readerSet{}
		}
	}()
	for _, kind := range c.Readers {
		var s reader.Source
		switch open := openers[kind]; {
		case kind == readersNone:
			continue
		case kind == readersEmulated:
			if info, err := os.Stat(c.Cards); err != nil || !info.IsDir() {
				return set, program.Usagef("-cards %s: not a folder", c.Cards)
			}
			set.emulated = emulated.New(os.DirFS(c.Cards))
			s = set.emulated
		case kind == readersVPCD:
			l, remove, err := listenUnix("-card-socket", c.CardSocket)
			if err != nil {
				return set, err
			}
			set.sockets = append(set.sockets, remove)
			s = vpcd.Listen(l, c.Log)
		case open == nil:
			return set, program.Usagef("-readers %s: this dtu was built without; build it with cgo and -tags %s, or take usbfs", kind, kind)
		default:
			if s, err = open(ctx, c.Log); err != nil {
				return set, fmt.Errorf("dtu: -readers %s: %w", kind, err)
			}
		}
		set.sources = append(set.sources, s)
	}
	return set, nil
}

func (r readerSet) close() error {
	var errs []error
	for _, s := range r.sources {
		errs = append(errs, s.Close())
	}
	for _, remove := range r.sockets {
		remove()
	}
	return errors.Join(errs...)
}

// watchReaders hands what happens at the readers to the loop, until ctx ends.
func (s *shell) watchReaders(ctx context.Context) {
	for _, source := range s.readers {
		s.wg.Go(func() {
			for {
				select {
				case e, ok := <-source.Events():
					if !ok {
						return
					}
					s.fromHere(e)
				case <-ctx.Done():
					return
				}
			}
		})
	}
}
