package reader

// A Protocoler is a Card that knows how its reader speaks with it.
type Protocoler interface {
	// Protocol is 0 for T=0 and 1 for T=1; ok is false where nobody knows.
	Protocol() (t int, ok bool)
}

// Protocol is how a card is spoken with, where its reader says that.
func Protocol(c Card) (t int, ok bool) {
	if p, is := c.(Protocoler); is {
		return p.Protocol()
	}
	return 0, false
}
