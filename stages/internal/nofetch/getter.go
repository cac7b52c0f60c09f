// Package getter stands in for HashiCorp's go-getter, by a replace directive in Slipway's go.mod.
//
// Syft and Trivy link it to fetch archives and Terraform modules from wherever a name leads. Slipway hands them files only, and a scanner
// that follows an address out of the source that it scans is one to be afraid of. Here, every fetch is refused. It also keeps the storage
// clients of three clouds, an eighth of all that is compiled, out of the toolbox.
package getter

import (
	"context"
	"errors"
	"io"
	"net/http"
)

// ErrRefused is the answer to every fetch.
var ErrRefused = errors.New("remote sources are not fetched")

// The types and functions below have the names and shapes that Syft and Trivy use.
type (
	// Getter fetches nothing.
	Getter interface{ refuse() }
	// HttpGetter stands for http and https.
	HttpGetter struct { //nolint:revive // the name is go-getter's
		Client *http.Client
		Header http.Header
	}
	// FileGetter stands for files.
	FileGetter struct{ Copy bool }
	// GitGetter stands for git.
	GitGetter struct{}
	// GCSGetter stands for Google Cloud Storage.
	GCSGetter struct{}
	// HgGetter stands for Mercurial.
	HgGetter struct{}
	// S3Getter stands for Amazon S3.
	S3Getter struct{}
	// Decompressor unpacks nothing.
	Decompressor interface{ refuse() }
	// ClientMode says what would be fetched.
	ClientMode uint
	// ClientOption changes nothing.
	ClientOption func(*Client) error
	// ProgressTracker is never called.
	ProgressTracker interface {
		TrackProgress(src string, currentSize, totalSize int64, stream io.ReadCloser) io.ReadCloser
	}
)

func (*HttpGetter) refuse() {}
func (*FileGetter) refuse() {}
func (*GitGetter) refuse()  {}
func (*GCSGetter) refuse()  {}
func (*HgGetter) refuse()   {}
func (*S3Getter) refuse()   {}

// ClientModeAny is the only mode in use.
const ClientModeAny ClientMode = 1

// Getters and Decompressors are empty: nothing is fetched, and nothing unpacked.
var (
	Getters       = map[string]Getter{}
	Decompressors = map[string]Decompressor{}
)

// Client would fetch Src to Dst.
type Client struct {
	Ctx           context.Context //nolint:containedctx // the shape is go-getter's
	Src, Dst, Pwd string
	Mode          ClientMode
	Dir           bool
	Getters       map[string]Getter
	Options       []ClientOption
}

// Get refuses.
func (*Client) Get() error { return ErrRefused }

// WithProgress changes nothing.
func WithProgress(ProgressTracker) ClientOption { return func(*Client) error { return nil } }

// WithDecompressors changes nothing.
func WithDecompressors(map[string]Decompressor) ClientOption {
	return func(*Client) error { return nil }
}

// LimitedDecompressors are none.
func LimitedDecompressors(int, int64) map[string]Decompressor { return map[string]Decompressor{} }
