// Package identity names a card: it finds the token type and id under which
// the group knows it.
//
// Source: design section 3; reference/alp.md section 11; NIST SP 800-73-4 (PIV);
// the OpenPGP application 3.4, section 4.2.1; ISO 7816-4 section 12.2.3 and
// ISO 7816-15 (EF.GDO); PC/SC part 3 section 3.2.2.1.3 (UID of a contactless card).
//
// A list of rules is asked in order, the first that knows the card names it; an
// admin writes it, see ParseRules. The ATR, the last resort, tells kinds of
// cards apart, not cards. A name is no proof: ids can be copied.
//
// Invariants:
//  1. A Token that Identify returns is a valid alp.Token.
//  2. A card that left while it was asked gives reader.ErrRemoved, any other
//     card that no rule can name gives ErrUnreadable.
//  3. A card that a rule knows and cannot read to the end is unreadable, and so
//     is one that does not answer a rule's question at all: a later rule does
//     not make another token of it, which would be another session.
//
// Exchanges are bounded by the caller's context. Limit: MaxID.
package identity

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"hotdesk/protocol/alp"
	"hotdesk/smartcard/apdu"
	"hotdesk/smartcard/reader"
)

// MaxID bounds a token's id, in characters: an ATR in hex.
const MaxID = 2 * alp.MaxATR

// ErrUnreadable is wrapped where no rule could name a card.
var ErrUnreadable = errors.New("identity: card cannot be read; pull it out and push it in again, chip first and all the way")

// A Token is a card's name.
type Token struct {
	Type, ID string
	ATR      []byte
}

// A Rule names the cards that it knows. It returns false for one that is not
// its own, an error where the card did not answer, so that nobody knows.
type Rule struct {
	Type string // of the tokens it makes
	ID   func(ctx context.Context, c reader.Card) (id string, ok bool, err error)
}

// Identify asks the rules in order.
func Identify(ctx context.Context, c reader.Card, rules []Rule) (Token, error) {
	for _, r := range rules {
		id, ok, err := r.ID(ctx, c)
		switch {
		case errors.Is(err, reader.ErrRemoved):
			return Token{}, err
		case ctx.Err() != nil:
			return Token{}, fmt.Errorf("%w (%w)", ErrUnreadable, ctx.Err())
		case err != nil:
			return Token{}, fmt.Errorf("%w (naming rule %q: %w)", ErrUnreadable, r.Type, err)
		case ok && len(id) <= MaxID && alp.Token(r.Type+"."+id).Valid():
			return Token{r.Type, id, c.ATR()}, nil
		}
	}
	return Token{}, fmt.Errorf("%w (no naming rule knows this card)", ErrUnreadable)
}

func byATR(_ context.Context, c reader.Card) (string, bool, error) {
	atr := c.ATR()
	return hex.EncodeToString(atr), len(atr) > 0 && len(atr) <= alp.MaxATR, nil
}

// transmit carries a command through chaining and GET RESPONSE.
func transmit(ctx context.Context, c reader.Card, cmd apdu.Command) (apdu.Response, error) {
	for d := apdu.NewDialog(cmd, false); ; {
		b, err := c.Transmit(ctx, d.Command().Append(nil))
		if err != nil {
			return apdu.Response{}, err
		}
		r, err := apdu.ParseResponse(b)
		if err != nil {
			return apdu.Response{}, err
		}
		if whole, done, err := d.Take(r); done {
			return whole, err
		}
	}
}
