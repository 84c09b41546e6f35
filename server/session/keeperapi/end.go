package keeperapi

import "time"

// What the steps of a session's end may take, in their order. A keeper ends a
// step that takes longer and goes on with the next; it waits for login modules
// alone as long as they work.
const (
	EndMedia    = 2 * time.Second  // the media process, before it is killed
	EndPrograms = 10 * time.Second // all processes
	EndFiles    = time.Minute      // what they made in the session's directory
	EndGroup    = 10 * time.Second // what is left in its control group
	EndAccount  = 10 * time.Second // what a kiosk's account has elsewhere
	EndGoodbye  = 2 * time.Second  // the last words to those who are connected
	EndModules  = 30 * time.Second // usual login modules, with much to write back
)

// EndTime is how long whoever waits for the end of a session waits: after it,
// the session does not end.
const EndTime = EndMedia + EndPrograms + EndFiles + EndGroup + EndAccount + EndGoodbye + EndModules
