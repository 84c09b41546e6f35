package screen

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// A Counter takes the frames of one display stream as a Decoder does, but
// draws nothing and looks into none: it is for terminals that are only a load.
// Decode is for one goroutine; Close may be called by any.
type Counter struct {
	seq    uint32
	err    error
	closed atomic.Bool
}

// Decode reads one frame. Its errors are those of a Decoder.
func (c *Counter) Decode(r *bufio.Reader) (seq uint32, err error) {
	if c.closed.Load() {
		return 0, ErrDetached
	}
	if c.err == nil {
		c.err = c.count(r)
	}
	if c.err != nil {
		return 0, c.err
	}
	return c.seq, nil
}

func (c *Counter) count(r *bufio.Reader) error {
	for parts := 0; ; parts++ {
		h, err := readHeader(r)
		if err == io.EOF && parts > 0 {
			err = fmt.Errorf("screen: %w", io.ErrUnexpectedEOF)
		}
		if err != nil {
			return err
		}
		part := h.Seq == 0 && c.seq == 0
		if !part && h.Seq != c.seq+1 {
			return fmt.Errorf("%w: number %d after %d", ErrFrame, h.Seq, c.seq)
		}
		if _, err := r.Discard(h.Packed); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("screen: %w", err)
		}
		if !part {
			c.seq = h.Seq
			return nil
		}
	}
}

// Close ends the counter.
func (c *Counter) Close() { c.closed.Store(true) }
