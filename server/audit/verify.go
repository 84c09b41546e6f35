package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// A Verifier reads the files of one host's audit, in order, and holds them to
// the chain.
type Verifier struct {
	Entries []Entry // what could be read
	Faults  []string
	Torn    bool   // the last line does not end: a crash, or an entry is just being written
	First   uint64 // number of the first entry
	Last    uint64
	Hash    string // of the last line

	begun bool
}

// Read goes on with a file. name stands in the faults.
func (v *Verifier) Read(name string, r io.Reader) error {
	fault := func(line int, format string, a ...any) {
		if len(v.Faults) < 100 {
			v.Faults = append(v.Faults, fmt.Sprintf("%s:%d: %s", name, line, fmt.Sprintf(format, a...)))
		}
	}
	if v.Torn {
		fault(1, "the file before this one ends in the middle of a line")
		v.Torn = false
	}
	br := bufio.NewReaderSize(r, MaxEntry+1)
	for n := 1; ; n++ {
		raw, err := br.ReadSlice('\n')
		switch {
		case err == io.EOF:
			v.Torn = len(raw) > 0
			return nil
		case err == bufio.ErrBufferFull:
			fault(n, "a line of more than %d bytes", MaxEntry)
			return nil
		case err != nil:
			return fmt.Errorf("audit: %s: %w", name, err)
		}
		line := bytes.TrimSuffix(raw, []byte("\n"))
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			fault(n, "not an entry: %v", err)
			v.Hash = sum(line)
			continue
		}
		switch {
		case !v.begun && e.N == 1 && e.Prev != "":
			fault(n, "the first entry names one before it")
		case v.begun && e.N != v.Last+1:
			fault(n, "entry %d comes after entry %d: what was between is missing, or the order was changed", e.N, v.Last)
		case v.begun && e.Prev != v.Hash:
			fault(n, "entry %d does not fit the line before it: one of the two was changed", e.N)
		}
		if !v.begun {
			v.First, v.begun = e.N, true
		}
		v.Last, v.Hash = e.N, sum(line)
		v.Entries = append(v.Entries, e)
	}
}
