package terminal

import "time"

// say shows an on-screen display unless it is there already.
func (m *Machine) say(o OSD) {
	if m.osd != o {
		m.blank(o)
	}
}

// blank shows an on-screen display, which takes away whatever was there.
func (m *Machine) blank(o OSD) {
	m.osd, m.noticed, m.noticeAt, m.corner = o, false, time.Time{}, Notice{}
	m.do(Blank{o})
}

// closeMedia ends media, if there is any.
func (m *Machine) closeMedia(reason string) {
	if m.med.id != 0 {
		m.do(CloseMedia{m.med.id, reason})
	}
	m.med, m.mediaAt = media{}, time.Time{}
}

// backoff is the pause after n losses.
func backoff(n int) time.Duration {
	return min(minRetry<<min(n, 8), maxRetry)
}
