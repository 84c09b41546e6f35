package terminal

import (
	"time"

	"hotdesk/protocol/alp"
)

// What the corner says of the terminal's own accord.
const (
	textStill     = "The picture stands still: the connection to the session is being made again"
	textReconnect = "The server does not answer; the session goes on while the terminal reconnects"
)

// quiet takes away what was said of a lost connection.
func (m *Machine) quiet() {
	m.noticeAt, m.noticed = time.Time{}, false
	m.speak()
}

// notice says that a connection is lost.
func (m *Machine) notice() {
	m.noticed = true
	m.speak()
}

// noticeInf takes in what a server wants to be read.
func (m *Machine) noticeInf(n alp.NoticeInf) {
	m.told, m.tellFor, m.tellAt = clean(n.Text), time.Duration(n.Seconds)*time.Second, time.Time{}
	m.speak()
}

// speak has the corner say what there is to say: of a lost connection first,
// else what a server told, once there is a picture to read it over.
func (m *Machine) speak() {
	code, text := 0, ""
	switch {
	case m.noticed && m.link == linkUp:
		code, text = CodeDisconnected, textStill
	case m.noticed:
		code, text = CodeDisconnected, textReconnect
	case m.osd == (OSD{}) && m.med.drawn:
		if text = m.told; text != "" && m.tellFor > 0 && m.tellAt.IsZero() {
			m.tellAt = m.now.Add(m.tellFor)
		}
	}
	if n := (Notice{code, text}); n != m.corner {
		m.corner = n
		m.do(n)
	}
}
