package emulated

import (
	"bytes"
	"testing"

	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/piv"
)

// TestChallenge: the card gives a challenge for its management key, another
// each time, and does nothing more with that key.
func TestChallenge(t *testing.T) {
	c := &chip{Plastic: Plastic{Type: "piv", ATR: []byte{0x3b, 0}}}
	c.exchange(piv.Select())
	ask := apdu.Command{INS: apdu.InsGeneralAuthenticate, P2: managementKey, Data: askChallenge, Le: apdu.MaxShortLe}
	first, second := c.exchange(ask), c.exchange(ask)
	for _, r := range []apdu.Response{first, second} {
		if r.Status != apdu.OK || len(r.Data) != 12 || !bytes.HasPrefix(r.Data, []byte{0x7C, 10, 0x81, 8}) {
			t.Errorf("%x % x", r.Status, r.Data)
		}
	}
	if bytes.Equal(first.Data, second.Data) {
		t.Error("the same challenge twice")
	}
	ask.Data = []byte{0x7C, 2, 0x80, 0}
	if r := c.exchange(ask); r.Status == apdu.OK {
		t.Errorf("a witness: % x", r.Data)
	}
}
