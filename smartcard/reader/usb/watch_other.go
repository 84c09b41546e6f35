//go:build usb && !linux

package usb

import "time"

// look is how often readers are looked for where the system tells of none.
const look = time.Second

type ticker struct {
	*time.Ticker
	changes chan struct{}
	closed  chan struct{}
}

func watch() (watcher, error) {
	t := &ticker{time.NewTicker(look), make(chan struct{}), make(chan struct{})}
	go func() {
		for {
			select {
			case <-t.C:
			case <-t.closed:
				return
			}
			select {
			case t.changes <- struct{}{}:
			case <-t.closed:
				return
			}
		}
	}()
	return t, nil
}

func (t *ticker) Changes() <-chan struct{} { return t.changes }

func (t *ticker) Close() error {
	t.Stop()
	close(t.closed)
	return nil
}
