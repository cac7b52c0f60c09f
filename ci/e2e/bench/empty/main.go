// The least that a Dagger module can be: what a call of it takes is the baseline for Slipway's.
package main

// An empty module.
type Empty struct{}

// Nothing to do.
func (e *Empty) Nothing() string { return "nothing" }
