package main

import (
	"context"

	"dagger/slipway/internal/dagger"
)

// Make a key pair to sign with: "key-pair --password env:COSIGN_PASSWORD export --path keys" writes cosign.key and cosign.pub.
//
// +cache="never"
func (s *Slipway) KeyPair(
	ctx context.Context,
	// The password that the private key is encrypted with.
	password *dagger.Secret,
) (*dagger.Directory, error) {
	ctr := s.program("keypair").WithMountedSecret("/secrets/password", password)
	r, err := run(ctx, "keypair", fresh(ctr), []string{"keypair", "-password", "/secrets/password"})
	if err != nil {
		return nil, err
	}
	return r.Files.WithoutFile("result.json"), nil
}
