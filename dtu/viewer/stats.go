package viewer

// Bytes returns how many bytes of UDP payload have come and gone, QUIC's own
// among them.
func (v *Viewer) Bytes() (received, sent uint64) {
	s := v.conn.ConnectionStats()
	return s.BytesReceived, s.BytesSent
}
