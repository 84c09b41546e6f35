package app

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"hotdesk/protocol/adminapi"
	"hotdesk/protocol/alp"
	"hotdesk/server/control"
)

func TestPinKey(t *testing.T) {
	const id, key = alp.TerminalID("080020000001"), "aa"
	terminal := func(id string, fields map[string]string) adminapi.Record {
		return adminapi.Record{Kind: adminapi.KindTerminal, Name: id, Fields: fields}
	}
	var full []adminapi.Record
	for i := range mostPinned {
		full = append(full, terminal(fmt.Sprintf("%012x", i), map[string]string{"key": "bb"}))
	}
	named := terminal(string(id), map[string]string{"name": "desk 1"})
	for what, c := range map[string]struct {
		records []adminapi.Record
		edits   int
		err     string
	}{
		"a new one":         {nil, 1, ""},
		"one with a name":   {[]adminapi.Record{named}, 1, ""},
		"it has it":         {[]adminapi.Record{terminal(string(id), map[string]string{"key": key})}, 0, ""},
		"it has another":    {[]adminapi.Record{terminal(string(id), map[string]string{"key": "bb"})}, 0, control.ErrOtherKey.Error()},
		"too many":          {full, 0, "takes no more by themselves"},
		"its place is kept": {append([]adminapi.Record{named}, full...), 1, ""},
	} {
		t.Run(what, func(t *testing.T) {
			adminapi.Sort(c.records)
			edits, err := pinKey(c.records, id, key)
			if len(edits) != c.edits || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%v, %v", edits, err)
			}
			if errors.Is(err, control.ErrOtherKey) != strings.HasPrefix(what, "it has another") {
				t.Errorf("%v", err)
			}
		})
	}
}
