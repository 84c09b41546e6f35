package app

import (
	"testing"

	"hotdesk/protocol/alp"
)

func TestHotkeys(t *testing.T) {
	var k hotkeys
	for i, c := range []struct {
		usage uint16
		down  bool
		ours  bool
		wish  alp.Wish
	}{
		{usageHome, true, false, ""}, {usageHome, false, false, ""},
		{usageLeftCtrl, true, false, ""}, {usageHome, true, false, ""}, {usageHome, false, false, ""},
		{usageRightAlt, true, false, ""}, {usageHome, true, true, alp.WishSwitch}, {usageHome, true, true, ""},
		{usageRightAlt, false, false, ""}, {usageHome, false, true, ""}, {usageHome, true, false, ""}, {usageHome, false, false, ""},
		{usageLeftAlt, true, false, ""}, {usageEnd, true, true, alp.WishLeave}, {usageEnd, false, true, ""},
	} {
		if ours, wish := k.key(c.usage, c.down); ours != c.ours || wish != c.wish {
			t.Errorf("%d: %#x %v: %v %q", i, c.usage, c.down, ours, wish)
		}
	}
	k.release()
	if ours, _ := k.key(usageEnd, true); ours {
		t.Error("after a release")
	}
}
