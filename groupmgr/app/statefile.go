package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

const (
	maxStateFile = 4 << 10
	maxPeersFile = maxPeers * len("255.255.255.255:65535\n")
)

// stateFile is the path of the file that keeps what an admin set over a
// restart: local.State, but for the number of sessions.
type stateFile string

// read returns what was kept, or the zero value where nothing was.
func (f stateFile) read() (engine.SetState, error) {
	file, err := os.Open(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return engine.SetState{}, nil
	}
	if err != nil {
		return engine.SetState{}, fmt.Errorf("groupmgr: state: %w", err)
	}
	defer file.Close()
	var s local.State
	text, err := io.ReadAll(io.LimitReader(file, maxStateFile))
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err == nil {
		err = local.StateRequest{State: s.State}.Check()
	}
	if err != nil {
		return engine.SetState{}, fmt.Errorf("groupmgr: state in %s: %w; set it anew by 'groupmgr ctl'", string(f), err)
	}
	out := engine.SetState{State: group.State(s.State)}
	if s.Deadline > 0 && out.State == group.Offline {
		out.Deadline = time.Unix(s.Deadline, 0)
	}
	return out, nil
}

// write keeps s. It replaces the file at once, so that a reader finds the old
// state or the new one.
func (f stateFile) write(s local.State) error {
	s.Sessions = 0
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return replaceFile(string(f), append(text, '\n'))
}

func replaceFile(path string, text []byte) error {
	fresh := path + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return fmt.Errorf("groupmgr: state: %w", err)
	}
	return os.Rename(fresh, path)
}

// addrsFile is the path of a file that keeps addresses over a restart, a line
// each: the learned peers', or our own.
type addrsFile string

// read returns what was kept and can be used; the rest is no loss.
func (f addrsFile) read() []netip.AddrPort {
	file, err := os.Open(string(f))
	if err != nil {
		return nil
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, int64(maxPeersFile)))
	if err != nil {
		return nil
	}
	var list []netip.AddrPort
	for line := range strings.Lines(string(text)) {
		if p, err := parsePeer(strings.TrimSpace(line)); err == nil && p.Port() != 0 && len(list) < maxPeers {
			list = append(list, p)
		}
	}
	return list
}

func (f addrsFile) write(list []netip.AddrPort) error {
	var b strings.Builder
	for _, p := range list[:min(len(list), maxPeers)] {
		fmt.Fprintln(&b, p)
	}
	return replaceFile(string(f), []byte(b.String()))
}
