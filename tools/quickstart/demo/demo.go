// Package demo is what the quickstart shows: a page with two terminals of two
// hosts and cards to drag, or the same as an unattended tour.
//
// It drives real programs through package lab and dtu's control socket; every
// picture it judges is the one on a terminal's screen.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"hotdesk/testdata"
	"hotdesk/tools/internal/lab"
	"hotdesk/tools/quickstart/page"
)

// cards gives the terminals the cards of testdata.
func cards(l *lab.Lab) error {
	files, err := fs.Sub(testdata.Cards, "cards")
	if err != nil {
		return err
	}
	return os.CopyFS(l.Path("cards"), files)
}

// Page serves one page with both terminals until ctx ends.
func Page(ctx context.Context, l *lab.Lab, listen string, out io.Writer) (err error) {
	if err := cards(l); err != nil {
		return err
	}
	var hosts []*lab.Host
	defer func() {
		fmt.Fprintln(out, "\nending the sessions and programs")
		err = errors.Join(err, l.Close(hosts...))
	}()
	var terminals []page.Terminal
	start, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for i, name := range []string{"north", "south"} {
		h, err := l.Host(start, name)
		if h != nil {
			hosts = append(hosts, h)
		}
		if err != nil {
			return err
		}
		t, err := l.Terminal(start, string(rune('a'+i)), "-server", h.Addr, "-display", "workbench")
		if err != nil {
			return err
		}
		u, err := url.Parse(t.Ready["url"])
		if err != nil {
			return fmt.Errorf("the terminal's address %q: %w", t.Ready["url"], err)
		}
		terminals = append(terminals, page.Terminal{Name: "Terminal " + string(rune('A'+i)), Host: name, URL: u})
	}
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	handler := page.New(terminals)
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	fmt.Fprintf(out, "\nquickstart: ready page=http://%s%s\n\nOpen that page, drag a card into a terminal, type, drag the card to the other one.\nCtrl-C ends everything.\n", ln.Addr(), handler.Path())
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
