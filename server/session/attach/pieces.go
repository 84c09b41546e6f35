package attach

import "github.com/quic-go/quic-go"

const (
	// maxPieces bounds the pieces of a picture that wait to be written; what
	// finds no room becomes part of the next one.
	maxPieces = 16
	// pieceRoom is the memory that a piece begins with, in bytes.
	pieceRoom = 64 << 10
)

// pieces are those of one picture: they are written while the next are made, and
// never hold up who makes them. The zero value has written none.
type pieces struct {
	out   *quic.SendStream
	queue chan []byte // nil: nothing is being written
	free  chan []byte // memory of what was written, also of pictures before; nil: none
	done  chan error
	bytes int // so far
}

// add has b written, and returns where to go on: b itself where there is no room.
func (p *pieces) add(b []byte) []byte {
	if p.queue == nil {
		p.queue, p.done = make(chan []byte, maxPieces), make(chan error, 1)
		if p.free == nil {
			p.free = make(chan []byte, maxPieces)
		}
		go p.run()
	}
	select {
	case p.queue <- b:
		p.bytes += len(b)
	default:
		return b
	}
	select {
	case b := <-p.free:
		return b
	default:
		return make([]byte, 0, pieceRoom)
	}
}

// run writes until the queue is closed, or once something went wrong.
func (p *pieces) run() {
	var err error
	for b := range p.queue {
		if err == nil && len(b) > 0 {
			_, err = p.out.Write(b)
		}
		select {
		case p.free <- b[:0]:
		default: // for the collector
		}
	}
	p.done <- err
}

// end writes b, the last of a picture, and returns when all is written; b stays the
// caller's.
func (p *pieces) end(b []byte) error {
	if p.queue != nil {
		close(p.queue)
		err := <-p.done
		p.queue, p.bytes = nil, 0
		if err != nil {
			return err
		}
	}
	_, err := p.out.Write(b)
	return err
}
