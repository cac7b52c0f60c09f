package main

// golangciLint is installed from its Go module, like every linter from its ecosystem's own registry.
const golangciLint = "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0"
