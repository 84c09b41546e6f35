package native

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The card of a session's programs travels in two streams of the media
// connection, both of CardMessage after the stream's kind. The terminal opens
// StreamCard when it has the card whose token the attachment is for, and says
// CardInserted; a media end that serves cards then opens StreamCardAsk. A media
// end of an older version refuses StreamCard, and there is no card.
const (
	StreamCard    Kind = 3 // terminal: what the card does and answers
	StreamCardAsk Kind = 4 // media end: what it is asked
)

// CardType says what a CardMessage is. Only ever appended to; unknown ones are
// skipped.
type CardType byte

const (
	// From the terminal.
	CardInserted CardType = 1 // Card is in, Data is its ATR, Seq a CardProtocol
	CardRemoved  CardType = 2 // Card is out
	CardAnswer   CardType = 3 // to Seq: the response APDU, or nothing to a reset
	CardFailed   CardType = 4 // to Seq: Data is one byte, a CardFault
	// From the media end.
	CardTransmit CardType = 5 // Data is a command APDU for Card; answered
	CardReset    CardType = 6 // Card is to be reset; answered
	CardHold     CardType = 7 // nobody else at the terminal may use the card, till CardRelease; not answered
	CardRelease  CardType = 8 // not answered
)

// CardProtocol is how the terminal's reader speaks with a card (ISO 7816-3).
// Terminals of before send CardUnsaid.
type CardProtocol uint32

const (
	CardUnsaid CardProtocol = 0 // not known: the ATR says what it may be
	CardT0     CardProtocol = 1
	CardT1     CardProtocol = 2
)

// CardFault is why there is no answer.
type CardFault byte

const (
	CardGone    CardFault = 1 // it is out, or was not the session's
	CardMute    CardFault = 2 // it does not answer
	CardRefused CardFault = 3 // the terminal does not do that
)

const (
	// CardHeaderSize is the length of a CardMessage without its data: u8 type,
	// u32 card, u32 seq, u32 length.
	CardHeaderSize = 13
	// MaxCardData bounds the data: an extended APDU.
	MaxCardData = 4 + 3 + 65535 + 3
	// MaxCardATR bounds an ATR.
	MaxCardATR = 33
)

// CardMessage is one message about a card, either way.
type CardMessage struct {
	Type CardType
	Card uint32 // which insertion of the attachment, numbered by the terminal
	Seq  uint32 // of a question and its answer
	Data []byte
}

// Errors of ParseCard.
var (
	ErrCard      = errors.New("native: bad card message")
	ErrCardShort = errors.New("native: card message not whole yet")
)

// cardLimits are the least and the most data of the types that are known.
var cardLimits = map[CardType][2]int{
	CardInserted: {0, MaxCardATR}, CardRemoved: {0, 0},
	CardAnswer: {0, MaxCardData}, CardFailed: {1, 1},
	CardTransmit: {1, MaxCardData}, CardReset: {0, 0}, CardHold: {0, 0}, CardRelease: {0, 0},
}

// Append writes m, whose data must be within its type's limits.
func (m CardMessage) Append(b []byte) []byte {
	if l, ok := cardLimits[m.Type]; len(m.Data) > MaxCardData || ok && (len(m.Data) < l[0] || len(m.Data) > l[1]) {
		panic(fmt.Sprintf("native: card message %d with %d bytes", m.Type, len(m.Data)))
	}
	b = append(b, byte(m.Type))
	b = binary.BigEndian.AppendUint32(b, m.Card)
	b = binary.BigEndian.AppendUint32(b, m.Seq)
	b = binary.BigEndian.AppendUint32(b, uint32(len(m.Data)))
	return append(b, m.Data...)
}

// ParseCard reads the message at the front of b. ErrCardShort means that more
// bytes are needed.
func ParseCard(b []byte) (m CardMessage, rest []byte, err error) {
	if len(b) < CardHeaderSize {
		return CardMessage{}, nil, ErrCardShort
	}
	m = CardMessage{Type: CardType(b[0]), Card: binary.BigEndian.Uint32(b[1:]), Seq: binary.BigEndian.Uint32(b[5:])}
	n := binary.BigEndian.Uint32(b[9:])
	limits, ok := cardLimits[m.Type]
	if !ok {
		limits = [2]int{0, MaxCardData}
	}
	if int64(n) < int64(limits[0]) || int64(n) > int64(limits[1]) {
		return CardMessage{}, nil, fmt.Errorf("%w: type %d with %d bytes; %d to %d", ErrCard, m.Type, n, limits[0], limits[1])
	}
	rest = b[CardHeaderSize:]
	if len(rest) < int(n) {
		return CardMessage{}, nil, ErrCardShort
	}
	if n > 0 {
		m.Data = append([]byte(nil), rest[:n]...)
	}
	return m, rest[n:], nil
}

// ReadCards calls each with the messages that r brings, in their order, until r
// ends or brings what is none. Its error is r's, or wraps ErrCard.
func ReadCards(r io.Reader, each func(CardMessage)) error {
	var buf []byte
	chunk := make([]byte, 2048)
	for {
		m, rest, err := ParseCard(buf)
		switch {
		case err == nil:
			buf = rest
			each(m)
		case !errors.Is(err, ErrCardShort):
			return err
		default:
			n, err := r.Read(chunk)
			buf = append(buf, chunk[:n]...)
			if err != nil {
				return err
			}
		}
	}
}
