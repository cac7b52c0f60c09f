// Command sign signs an image's digest and the statements about it.
package main

import (
	"bytes"
	"context"
	"flag"
	"os"

	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/sign"
)

func main() { os.Exit(result.Main(stage(), os.Args[1:], os.Stderr)) }

func stage() result.Stage {
	var in sign.Inputs
	var password string
	var try bool
	return result.Stage{
		Name:  "sign",
		Usage: "signs an image's digest and the statements about it",
		Flags: func(fs *flag.FlagSet) {
			fs.StringVar(&in.Digest, "digest", "", "the image index's `digest`, sha256:HEX")
			fs.StringVar(&in.Repository, "name", "", "the `repository` that the signature names")
			fs.StringVar(&in.Statements, "statements", "", "`directory` of in-toto statements")
			fs.StringVar(&in.Key, "key", "", "private key: PEM `file`, or awskms://, gcpkms://, azurekms://, hashivault:// URI")
			fs.BoolVar(&try, "try", false, "only open the key and sign nothing")
			fs.StringVar(&password, "password", "", "`file` with the private key's password")
		},
		Run: func(ctx context.Context, out string) (*result.Result, error) {
			if in.Key == "" {
				return nil, result.Inputf("flag -key is missing")
			}
			if password != "" {
				data, err := os.ReadFile(password)
				if err != nil {
					return nil, result.Inputf("reading the password: %w", err)
				}
				in.Password = bytes.TrimRight(data, "\r\n")
			}
			if try {
				return sign.Try(ctx, in.Key, in.Password)
			}
			in.Out = out
			return sign.Run(ctx, in)
		},
	}
}
