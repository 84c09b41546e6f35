// Package roundtrip tests that what a session's encoder makes is what a
// terminal's screen shows, and measures both; the two may not import each
// other.
//
// The package itself holds nothing but its tests. With -update they record the
// streams that dtu/screen's fuzzing begins with. testdata holds what real programs
// drew on a screen: -record NAME makes one anew.
package roundtrip
