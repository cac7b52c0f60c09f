// Command keypair makes the key pair that releases are signed with.
package main

import (
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/keys"
)

func main() {
	var password string
	os.Exit(result.Main(result.Stage{
		Name:  "keypair",
		Usage: "Makes cosign.key and cosign.pub.",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&password, "password", "", "`file` with the private key's password")
		},
		Run: func(_ context.Context, out string) (*result.Result, error) {
			secret, err := os.ReadFile(password)
			if err != nil {
				return nil, result.Inputf("reading the password: %w", err)
			}
			if err := keys.Write(out, secret); err != nil {
				return nil, err
			}
			return &result.Result{
				Verdict: result.Pass,
				Summary: "made " + keys.PrivateName + " and " + keys.PublicName,
				Files: []result.File{
					{Path: keys.PrivateName, MediaType: "application/x-pem-file"},
					{Path: keys.PublicName, MediaType: "application/x-pem-file"},
				},
			}, nil
		},
	}, os.Args[1:], os.Stderr))
}
