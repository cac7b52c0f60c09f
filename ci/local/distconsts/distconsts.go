// Package distconsts stands in for Dagger's unpublished nested module of the same name. Upstream's values are paths inside its engine
// image; ours come from whoever starts the engine, so that everything lies in one folder.
package distconsts

import "os"

// What the engine needs on disk. Upstream has constants; it uses them as plain values.
var (
	RuncPath                         = fromEnv("SLIPWAY_ENGINE_RUNC", "/usr/sbin/runc")
	DaggerInitPath                   = fromEnv("SLIPWAY_ENGINE_INIT", "/usr/local/bin/dagger-init")
	EngineDefaultStateDir            = fromEnv("SLIPWAY_ENGINE_STATE", "/var/lib/dagger")
	EngineContainerBuiltinContentDir = fromEnv("SLIPWAY_ENGINE_CONTENT", "/usr/local/share/dagger/content")
)

func fromEnv(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// Names that upstream declares and uses as constants.
const (
	EngineContainerName   = "dagger-engine.dev"
	DefaultEngineSockAddr = "unix:///run/dagger/engine.sock"

	GoSDKManifestDigestEnvName         = "DAGGER_GO_SDK_MANIFEST_DIGEST"
	PythonSDKManifestDigestEnvName     = "DAGGER_PYTHON_SDK_MANIFEST_DIGEST"
	TypescriptSDKManifestDigestEnvName = "DAGGER_TYPESCRIPT_SDK_MANIFEST_DIGEST"

	AlpineVersion = "3.22.1"
	AlpineImage   = "alpine:" + AlpineVersion

	GolangVersion = "1.25.5"
	GolangImage   = "golang:" + GolangVersion + "-alpine"

	BusyboxVersion = "1.37.0"
	BusyboxImage   = "busybox:" + BusyboxVersion

	OCIVersionAnnotation = "org.opencontainers.image.version"

	// With certificates here, the engine runs update-ca-certificates on the machine when it starts, and in every container around every
	// command. The base images hold the machine's bundle already; this folder is never there.
	EngineCustomCACertsDir = "/nonexistent/ca-certificates"
)
