package parent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"hotdesk/server/session/keeperapi"

	"golang.org/x/sys/unix"
)

// accountTime bounds the wait for the end of an account's session of before. Its
// keeper has ended all processes by then, but may have more to remove, for up to
// keeperapi.EndTime: then the kiosk is refused, until it is asked for later. A
// longer wait would, with StartTime, be more than the gateway waits.
const accountTime = keeperapi.EndMedia + keeperapi.EndPrograms

// kiosk returns the account that a kiosk runs as, "" for the caller, if it is
// one for that. Nothing but kiosks may run as it, since whatever of it is left
// is ended and removed: the gateway's word alone is not enough.
func (p *parent) kiosk(name string) (string, error) {
	if p.Local {
		return "", nil
	}
	if p.KioskGroup == "" {
		return "", errors.New("parent: this host runs no kiosks: name the group of their accounts with -kiosk-group")
	}
	u, err := person(name)
	if err != nil {
		return "", err
	}
	if err := mustBe(u, p.KioskGroup); err != nil {
		return "", err
	}
	var st unix.Stat_t
	if unix.Lstat(u.HomeDir, &st) == nil && strconv.FormatUint(uint64(st.Uid), 10) == u.Uid {
		return "", fmt.Errorf("parent: no kiosk for %s, whose own home %s would keep what visitors leave: remove it, or give it to root", name, u.HomeDir)
	}
	return u.Username, nil
}

// claim takes a session's place, and a kiosk's account, as which one session
// runs at a time: the one of before may still be ending.
func (p *parent) claim(ctx context.Context, ks keeperapi.Start) (*os.File, error) {
	if ks.Kiosk == nil || ks.User == "" {
		p.kiosks.Lock() // who waits for an account tries every lock
		defer p.kiosks.Unlock()
		return claim(p.Runtime, ks.Session, p.FrameBuffer, "")
	}
	ctx, cancel := context.WithTimeout(ctx, accountTime)
	defer cancel()
	look := time.NewTicker(lookAgain)
	defer look.Stop()
	for {
		lock, taken, err := p.claimFor(ks)
		if err != nil || !taken {
			return lock, err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("parent: a kiosk runs as %s already", ks.User)
		}
	}
}

// claimFor does, or reports that the account is taken.
func (p *parent) claimFor(ks keeperapi.Start) (lock *os.File, taken bool, err error) {
	p.kiosks.Lock()
	defer p.kiosks.Unlock()
	ids, err := lockFiles(p.Runtime)
	if err != nil {
		return nil, false, err
	}
	for _, id := range ids {
		if lives, _, account := alive(p.Runtime, id); lives && account == ks.User {
			return nil, true, nil
		}
	}
	lock, err = claim(p.Runtime, ks.Session, p.FrameBuffer, ks.User)
	return lock, false, err
}
