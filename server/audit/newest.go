package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
)

// Newest gives the entries of an audit's directory to f, the newest first,
// until f returns false. It reads from the ends of the files, so that what is
// old costs nothing; lines that are no entries are passed over: Verifier names
// them. It may be used while a Log writes.
func Newest(dir string, f func(Entry) bool) error {
	files, err := Files(dir)
	if err != nil {
		return err
	}
	for _, path := range slices.Backward(files) {
		more, err := newest(path, f)
		if err != nil {
			return fmt.Errorf("audit: %s: %w", path, err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// chunk is how much of a file is read at a time.
const chunk = 256 << 10

func newest(path string, f func(Entry) bool) (more bool, err error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer file.Close()
	at, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	var rest []byte // the end of a line whose beginning is further up
	torn := true    // what comes after the last line's end is none
	give := func(line []byte) bool {
		if torn {
			torn = false
			return true
		}
		var e Entry
		return len(line) == 0 || json.Unmarshal(line, &e) != nil || f(e)
	}
	for at > 0 {
		n := min(at, chunk)
		at -= n
		b := make([]byte, n, n+int64(len(rest)))
		if _, err := io.ReadFull(io.NewSectionReader(file, at, n), b); err != nil {
			return false, err
		}
		b = append(b, rest...)
		end := len(b)
		for i := end - 1; i >= 0; i-- {
			if b[i] == '\n' {
				if !give(b[i+1 : end]) {
					return false, nil
				}
				end = i
			}
		}
		if rest = b[:end]; len(rest) > MaxEntry { // no line is that long
			rest = rest[:0]
		}
	}
	return give(rest), nil
}
