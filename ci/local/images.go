package main

// baseImage is an image that the machine makes from Debian packages, in place of the official one of the same name.
type baseImage struct {
	name string
	// tags are the names under which the registry serves it, without docker.io.
	tags []string
	// suite is the Debian release, packages what it holds beyond the minimal system.
	suite    string
	packages []string
	// toolchain adds the machine's own Go at /usr/local/go.
	toolchain bool
	env       []string
	workdir   string
}

const path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// baseImages is the one table of them. A new language is one more entry.
var baseImages = []baseImage{
	{
		name:      "golang",
		tags:      []string{"library/golang:1.26-bookworm", "library/golang:1.26", "library/golang:latest"},
		suite:     "bookworm",
		packages:  []string{"ca-certificates", "curl", "g++", "gcc", "git", "libc6-dev", "make", "openssh-client", "openssl", "pkg-config"},
		toolchain: true,
		env:       []string{"PATH=/go/bin:/usr/local/go/bin:" + path, "GOPATH=/go", "GOTOOLCHAIN=local"},
		workdir:   "/go",
	},
	{
		name:  "debian",
		tags:  []string{"library/debian:bookworm-slim", "library/debian:bookworm", "library/debian:12-slim", "library/debian:latest"},
		suite: "bookworm",
		env:   []string{"PATH=" + path},
	},
}
