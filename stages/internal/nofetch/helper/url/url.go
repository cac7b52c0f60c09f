// Package url parses a URL, as go-getter's package of this name does outside Windows.
package url

import "net/url"

// Parse is net/url's.
func Parse(raw string) (*url.URL, error) { return url.Parse(raw) }
