package controltest

import "hotdesk/server/session/client"

// Ended reports whether the session is over.
func (k *Keeper) Ended() bool { return k.isDead() }

// Release has the terminal go by itself, as one does whose network is gone.
func (k *Keeper) Release(reason string) {
	k.mu.Lock()
	was := client.Change{Terminal: k.status.Terminal, Gen: k.status.Gen, Reason: reason}
	k.status.Terminal = ""
	k.mu.Unlock()
	k.notify(client.EventDetached, was)
}

// Quiet has media tell of quiet at what is attached, or of its end.
func (k *Keeper) Quiet(quiet bool) {
	k.mu.Lock()
	k.status.Quiet = quiet
	c := client.Change{Terminal: k.status.Terminal, Gen: k.status.Gen}
	k.mu.Unlock()
	op := client.EventStirred
	if quiet {
		op = client.EventQuiet
	}
	k.notify(op, c)
}
