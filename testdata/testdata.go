// Package testdata embeds what tests, the quickstart and the tour share:
// emulated cards, recorded bytes and scenarios.
//
// Source: made for this project; where a file was recorded from something
// else, a comment in it says from what.
package testdata

import "embed"

// Cards are emulated smart cards, one a file, as package emulated reads them:
// cards/card1.card and so on.
//
//go:embed cards/*.card
var Cards embed.FS

// Group are stories of failover groups, as package simulate reads them, with
// what happens recorded below each line.
//
//go:embed group/*.txt
var Group embed.FS
