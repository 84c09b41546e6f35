package check

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	dtu "hotdesk/dtu/app"
	groupmgr "hotdesk/groupmgr/app"
	"hotdesk/protocol/program"
	server "hotdesk/server/app"
	session "hotdesk/server/session/app"
	hotdesk "hotdesk/tools/admin/app"
	fleet "hotdesk/tools/fleet/app"
)

var update = flag.Bool("update", false, "rewrite the generated pages")

// Reference pages come from the flag sets, so they cannot drift.
func TestReferencePages(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	for page, c := range map[string]*program.Command{
		"groupmgr/REFERENCE.md":       groupmgr.Command(),
		"server/REFERENCE.md":         server.Command(),
		"server/session/REFERENCE.md": session.Command(),
		"dtu/REFERENCE.md":            dtu.Command(),
		"tools/admin/REFERENCE.md":    hotdesk.Command(),
		"tools/fleet/REFERENCE.md":    fleet.Command(),
	} {
		file := filepath.Join(root, filepath.FromSlash(page))
		want := c.Reference()
		if *update {
			if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		have, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		} else if string(have) != want {
			t.Errorf("%s does not agree with the flags; run: go run ./tools/test -update", page)
		}
	}
}
