// Package identity names a card: it finds the token type and id under which
// the group knows it.
//
// Source: design section 3; reference/alp.md section 11.
//
// A list of rules is asked in order, the first that knows the card names it:
// Hotdesk's simple card (SELECT, GET DATA), then the ATR as last resort, which
// tells kinds of cards apart, not cards. A name is no proof: ids can be copied.
//
// Invariants:
//  1. A Token that Identify returns is a valid alp.Token.
//  2. A card that left while it was asked gives reader.ErrRemoved, any other
//     card that no rule can name gives ErrUnreadable.
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
// its own, an error where the card did not answer.
type Rule struct {
	Type string // of the tokens it makes
	ID   func(ctx context.Context, c reader.Card) (id string, ok bool, err error)
}

// Rules returns the rules in the order they are asked.
func Rules() []Rule {
	return []Rule{
		{"simple", simple},
		{"atr", byATR},
	}
}

// Identify asks the rules in order.
func Identify(ctx context.Context, c reader.Card, rules []Rule) (Token, error) {
	var last error
	for _, r := range rules {
		id, ok, err := r.ID(ctx, c)
		switch {
		case errors.Is(err, reader.ErrRemoved):
			return Token{}, err
		case ctx.Err() != nil:
			return Token{}, fmt.Errorf("%w (%w)", ErrUnreadable, ctx.Err())
		case err != nil:
			last = err
		case ok && len(id) <= MaxID && alp.Token(r.Type+"."+id).Valid():
			return Token{r.Type, id, c.ATR()}, nil
		}
	}
	if last != nil {
		return Token{}, fmt.Errorf("%w (%w)", ErrUnreadable, last)
	}
	return Token{}, ErrUnreadable
}

func simple(ctx context.Context, c reader.Card) (string, bool, error) {
	r, err := transmit(ctx, c, apdu.Select(apdu.SimpleAID))
	if err != nil || r.Status != apdu.OK {
		return "", false, err
	}
	r, err = transmit(ctx, c, apdu.GetData(apdu.SimpleID))
	if err != nil {
		return "", false, err
	}
	if r.Status != apdu.OK || len(r.Data) != apdu.SimpleIDSize {
		return "", false, fmt.Errorf("identity: simple card answered %d bytes, status %04x", len(r.Data), r.Status)
	}
	return hex.EncodeToString(r.Data), true, nil
}

func byATR(_ context.Context, c reader.Card) (string, bool, error) {
	atr := c.ATR()
	return hex.EncodeToString(atr), len(atr) > 0 && len(atr) <= alp.MaxATR, nil
}

func transmit(ctx context.Context, c reader.Card, cmd apdu.Command) (apdu.Response, error) {
	b, err := c.Transmit(ctx, cmd.Append(nil))
	if err != nil {
		return apdu.Response{}, err
	}
	return apdu.ParseResponse(b)
}
