// Package mediaapi names what a keeper and its media process say to each
// other.
//
// Source: design sections 1 and 2. Requests of package rpc over a socketpair
// that media inherits as descriptor 3; descriptor 4 is the media UDP socket.
// The keeper's first request is OpSetup: the identity travels there and never
// in an argument or the environment. A closed socketpair ends media.
//
// Plain values, safe to copy.
package mediaapi

import (
	"time"

	"hotdesk/protocol/alp"
	"hotdesk/server/session/client"
)

// Requests from the keeper to media, and media's events. Only ever appended to.
const (
	OpSetup  = "setup"  // Setup -> Ready, once media can take offers
	OpOffer  = "offer"  // Offer -> client.Offer
	OpDetach = "detach" // client.Detach -> nothing; a gen that is no longer shown is no error

	EventAttached = "attached" // client.Change: a terminal redeemed its ticket
	EventDetached = "detached" // client.Change: it is gone
	EventQuiet    = "quiet"    // client.Change: no input came for client.Attach's Quiet
	EventStirred  = "stirred"  // client.Change: some does again
)

// Descriptors that a media process inherits.
const (
	ControlFD = 3 // the socketpair to the keeper
	UDPFD     = 4 // the media socket, bound by the parent
)

// Setup tells media whom and what it serves.
type Setup struct {
	Identity    []byte        `json:"identity"` // attach.Identity, one per session
	Display     string        `json:"display"`
	Authority   string        `json:"authority"`    // file of the X cookie
	FrameBuffer string        `json:"frame_buffer"` // file that the X server draws in
	MaxWidth    int           `json:"max_width"`
	MaxHeight   int           `json:"max_height"`
	Session     alp.SessionID `json:"session"`
	Port        int           `json:"port"` // UDP, of descriptor 4
	// CardSocket is where media serves the terminal's card to the session's
	// programs, in a directory of the user's; empty: nowhere.
	CardSocket string `json:"card_socket,omitempty"`
	// Pictures says how near to the screen's pixels the terminal's may be while
	// they change; at rest they are exact. Empty is PicturesMotion.
	Pictures Pictures `json:"pictures,omitempty"`
	// FrameBudget is how long a frame may take to make before a trace is left in
	// TraceDir, a directory of the user's; 0: nothing is recorded.
	FrameBudget time.Duration `json:"frame_budget,omitempty"`
	TraceDir    string        `json:"trace_dir,omitempty"`
}

// Pictures is a policy.
type Pictures string

const (
	PicturesExact  Pictures = "exact"  // always exact
	PicturesMotion Pictures = "motion" // near while they move
	PicturesFirst  Pictures = "first"  // and photos when they come
)

// Ready is the answer to a Setup.
type Ready struct{}

// Offer is a terminal's attach, with the number that the keeper gave it:
// numbers go on rising when media is restarted.
type Offer struct {
	client.Attach
	Gen uint64 `json:"gen"`
}
