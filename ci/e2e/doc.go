// Package e2e drives the module through the real dagger command line, as a user does. Its tests have the build tag e2e and need
// dagger on the PATH, an engine behind it, and SLIPWAY_REGISTRY naming a registry on this machine: ci/test provides them.
package e2e
