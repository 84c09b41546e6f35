package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"hotdesk/groupmgr/engine"
	"hotdesk/protocol/group"
	"hotdesk/protocol/group/local"
)

const maxStateFile = 4 << 10

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
	fresh := string(f) + ".new"
	if err := os.WriteFile(fresh, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("groupmgr: state: %w", err)
	}
	return os.Rename(fresh, string(f))
}
