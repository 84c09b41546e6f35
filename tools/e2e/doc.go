// Package e2e tests the whole path on real parts: group managers, servers,
// sessions with real X servers, terminals, all on loopback.
//
// The scenarios are the files of testdata/*.txt, in the words that
// commands_test.go defines; the attackers are Go, since they must break rules
// that the programs keep, and so are machines in networks of their own
// (netns_*) and terminals that are virtual computers (vm_*). The package itself holds nothing but its tests.
package e2e
