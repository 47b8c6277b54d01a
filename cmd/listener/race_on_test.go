//go:build race

package main_test

// raceFlags build the agent of the system tests like the tests themselves.
var raceFlags = []string{"-race"}
