// Package audit is the record of who did what on a host: a file that is only
// appended to, in which every line names the hash of the one before.
//
// Source: design section 5. The file is DIR/audit.log; a full one becomes
// DIR/audit-<number of its first line, 12 digits>.log, and the chain goes on in
// the next. A line is an Entry as JSON.
//
// Invariants:
//  1. Line n+1 holds the SHA-256 of line n, over files too: a line that was
//     changed, taken out or put in is found by Verify, and so is a file that
//     is missing between two others. Whoever can write to the directory can
//     make the whole chain anew, or cut its end off: compare the last hash
//     with one that was noted elsewhere (`hotdesk audit verify` prints it).
//  2. What a crash left of a last line is kept, as the text of an entry that
//     says so: nothing disappears.
//  3. An entry is on disk when Add returns.
//
// Values of an entry are text of others: they are cut to MaxValue and
// made printable. A Log is safe for concurrent use; one process at a time
// writes to a directory. Limits: MaxEntry, MaxValue, MaxFile.
package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode"
)

const (
	// MaxEntry bounds a line, in bytes.
	MaxEntry = 16 << 10
	// MaxValue bounds each text of an entry, in bytes.
	MaxValue = 512
	// MaxFile is the size at which a file is full, in bytes.
	MaxFile = 16 << 20

	current = "audit.log"
	old     = "audit-%012d.log"
)

// What happened. Only ever appended to.
const (
	Start    = "start"    // the gateway began to write
	Torn     = "torn"     // a crash had left a part of a line, which is in Text
	Attach   = "attach"   // a session was shown at a terminal
	Detach   = "detach"   // and no longer is
	Deny     = "deny"     // a token was denied; Text says why
	Begin    = "begin"    // a session was started
	End      = "end"      // a session ended; Text says why
	Admin    = "admin"    // an admin did Text
	Refuse   = "refuse"   // an admin wanted to do Text, and could not
	Registry = "registry" // an admin changed the registry, from revision Before to After
	Login    = "login"    // a user logged in
	Fail     = "fail"     // a login was refused, of Who, as far as the name was given
)

// Whats are the words for it, for whoever asks for entries of one kind.
func Whats() []string {
	return []string{Login, Fail, Begin, Attach, Detach, End, Deny, Admin, Refuse, Registry, Start, Torn}
}

// An Entry is one line.
type Entry struct {
	N    uint64    `json:"n"`
	When time.Time `json:"when"`
	Host string    `json:"host"`
	What string    `json:"what"`

	Who      string `json:"who,omitempty"` // an admin, or a session's user
	Token    string `json:"token,omitempty"`
	Terminal string `json:"terminal,omitempty"`
	Addr     string `json:"addr,omitempty"` // of the terminal
	Session  string `json:"session,omitempty"`
	Text     string `json:"text,omitempty"`
	Before   uint64 `json:"before,omitempty"` // revision of the registry
	After    uint64 `json:"after,omitempty"`

	Prev string `json:"prev"` // hash of the line before; empty at the first
}

// A Log is the audit of one host.
type Log struct {
	dir, host string
	now       func() time.Time
	most      int64

	mu   sync.Mutex
	f    *os.File
	size int64
	n    uint64
	prev string
	err  error // of the last Add
}

// Open goes on with the audit of dir, which it makes where it is missing. now
// is the clock.
func Open(dir, host string, now func() time.Time) (*Log, error) { return open(dir, host, now, MaxFile) }

func open(dir, host string, now func() time.Time, most int64) (*Log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, current), os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	l := &Log{dir: dir, host: host, now: now, most: most, f: f}
	torn, err := l.resume()
	if err == nil && torn != "" {
		err = l.Add(Entry{What: Torn, Text: torn})
	}
	if err == nil {
		err = l.Add(Entry{What: Start})
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// resume finds the end of the chain, and cuts off what is no whole line.
func (l *Log) resume() (torn string, err error) {
	last, good, rest, err := tail(l.f)
	if err != nil {
		return "", fmt.Errorf("audit: %s: %w", l.f.Name(), err)
	}
	if last == nil { // an empty file: the end is in the one before
		files, err := Files(l.dir)
		if err != nil {
			return "", err
		}
		if files = slices.DeleteFunc(files, func(p string) bool { return filepath.Base(p) == current }); len(files) > 0 {
			f, err := os.Open(files[len(files)-1])
			if err != nil {
				return "", fmt.Errorf("audit: %w", err)
			}
			defer f.Close()
			if last, _, _, err = tail(f); err != nil {
				return "", fmt.Errorf("audit: %s: %w", f.Name(), err)
			}
		}
	}
	if last != nil {
		var e Entry
		if err := json.Unmarshal(last, &e); err != nil {
			return "", fmt.Errorf("audit: the last line of %s is none: put the file aside, so that a new one can begin, and keep it: %w", l.f.Name(), err)
		}
		l.n, l.prev = e.N, sum(last)
	}
	if len(rest) > 0 {
		if err := l.f.Truncate(good); err != nil {
			return "", fmt.Errorf("audit: %w", err)
		}
	}
	l.size = good
	return string(rest), nil
}

// tail returns the last whole line of f, the bytes that hold whole lines, and
// what comes after them, cut.
func tail(f *os.File) (last []byte, good int64, rest []byte, err error) {
	st, err := f.Stat()
	if err != nil {
		return nil, 0, nil, err
	}
	from := max(0, st.Size()-2*MaxEntry-2)
	b := make([]byte, st.Size()-from)
	if _, err := io.ReadFull(io.NewSectionReader(f, from, st.Size()), b); err != nil {
		return nil, 0, nil, err
	}
	end := bytes.LastIndexByte(b, '\n') + 1
	rest = b[end:]
	if end == 0 {
		if from > 0 {
			return nil, 0, nil, errors.New("it has no lines")
		}
		return nil, 0, rest, nil
	}
	begin := bytes.LastIndexByte(b[:end-1], '\n') + 1
	if begin == 0 && from > 0 {
		return nil, 0, nil, fmt.Errorf("a line of more than %d bytes", MaxEntry)
	}
	return b[begin : end-1], from + int64(end), rest, nil
}

func sum(line []byte) string {
	h := sha256.Sum256(line)
	return hex.EncodeToString(h[:])
}

// Add appends an entry: N, When, Host and Prev are filled in.
func (l *Log) Add(e Entry) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = l.add(e)
	return l.err
}

func (l *Log) add(e Entry) error {
	if l.size >= l.most {
		if err := l.rotate(); err != nil {
			return err
		}
	}
	for _, s := range []*string{&e.What, &e.Who, &e.Token, &e.Terminal, &e.Addr, &e.Session, &e.Text} {
		*s = clean(*s)
	}
	e.N, e.When, e.Host, e.Prev = l.n+1, l.now().UTC().Truncate(time.Millisecond), clean(l.host), l.prev
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if _, err := l.f.Write(append(line, '\n')); err != nil {
		// What was written of it must not stand before the next line.
		return fmt.Errorf("audit: %w", errors.Join(err, l.f.Truncate(l.size)))
	}
	if err := l.f.Sync(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	l.size += int64(len(line)) + 1
	l.n, l.prev = e.N, sum(line)
	return nil
}

// rotate puts the full file away.
func (l *Log) rotate() error {
	path := filepath.Join(l.dir, current)
	first, err := firstLine(path)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, ".audit.new"), os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	if err := os.Link(path, filepath.Join(l.dir, fmt.Sprintf(old, first.N))); err != nil && !errors.Is(err, fs.ErrExist) {
		f.Close()
		return fmt.Errorf("audit: %w", err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		f.Close()
		return fmt.Errorf("audit: %w", err)
	}
	l.f.Close()
	l.f, l.size = f, 0
	return nil
}

func firstLine(path string) (Entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return Entry{}, fmt.Errorf("audit: %w", err)
	}
	defer f.Close()
	var e Entry
	line, err := bufio.NewReaderSize(f, MaxEntry+1).ReadSlice('\n')
	if err == nil {
		err = json.Unmarshal(line, &e)
	}
	if err != nil {
		return Entry{}, fmt.Errorf("audit: %s: its first line: %w", path, err)
	}
	return e, nil
}

// clean makes a text printable and short.
func clean(s string) string {
	if len(s) > MaxValue {
		s = s[:MaxValue]
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

// Err is what was wrong with the last entry: the disk is full, for example.
func (l *Log) Err() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Close ends the log.
func (l *Log) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}

// Files returns the files of an audit's directory, the oldest first.
func Files(dir string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(glob(dir), "audit-*.log"))
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	slices.Sort(files)
	last := filepath.Join(dir, current)
	if _, err := os.Stat(last); err == nil {
		files = append(files, last)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return files, nil
}

// glob has the bytes of a directory's name mean themselves.
func glob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// Merge puts the entries of several hosts into the order of their times; those
// of one host stay in their own.
func Merge(all ...[]Entry) []Entry {
	var out []Entry
	for _, a := range all {
		out = append(out, a...)
	}
	slices.SortStableFunc(out, func(a, b Entry) int {
		return cmp.Or(a.When.Compare(b.When), cmp.Compare(a.Host, b.Host), cmp.Compare(a.N, b.N))
	})
	return out
}
