package attach

import (
	"io"
	"sync"

	"github.com/quic-go/quic-go"

	"hotdesk/protocol/native"
)

// A CardServer serves the card at an attachment's terminal to the session's
// programs: in is what the terminal says of it, out asks it, both with messages
// of package native. It returns when in or out fails, as both do when the
// attachment ends; there is one call at most for an attachment, and Detached
// comes after its return.
type CardServer func(in io.Reader, out io.Writer)

// streams serves the terminal's card stream, and turns away what this version
// does not know.
func (a *attachment) streams() {
	var serving sync.WaitGroup
	defer serving.Wait()
	served := a.spec.Cards == nil
	for {
		s, err := a.conn.AcceptUniStream(a.conn.Context())
		if err != nil {
			return
		}
		var kind [1]byte
		if _, err := io.ReadFull(s, kind[:]); err != nil || native.Kind(kind[0]) != native.StreamCard || served {
			s.CancelRead(0)
			continue
		}
		served = true
		serving.Go(func() { a.cards(s) })
	}
}

func (a *attachment) cards(in *quic.ReceiveStream) {
	defer in.CancelRead(0)
	out, err := a.conn.OpenUniStream()
	if err != nil {
		return
	}
	defer out.CancelWrite(0)
	if _, err := out.Write([]byte{byte(native.StreamCardAsk)}); err == nil {
		a.spec.Cards(in, out)
	}
}
