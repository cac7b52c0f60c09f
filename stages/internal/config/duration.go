package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// Duration is a time.Duration that is written as 90s, 10m, 36h or 7d.
type Duration time.Duration

const day = 24 * time.Hour

var days = regexp.MustCompile(`^(\d{1,6})d`)

// ParseDuration reads what time.ParseDuration reads, with days in front ("7d", "1d12h"). Negative durations are refused.
func ParseDuration(s string) (Duration, error) {
	rest, total := s, time.Duration(0)
	if m := days.FindStringSubmatch(s); m != nil {
		n, err := strconv.Atoi(m[1])
		if err != nil || n > 36500 {
			return 0, fmt.Errorf("duration %q is longer than a hundred years", s)
		}
		total, rest = time.Duration(n)*day, s[len(m[0]):]
		if rest == "" {
			return Duration(total), nil
		}
	}
	d, err := time.ParseDuration(rest)
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration: write 90s, 10m, 36h or 7d", s)
	}
	if d < 0 || total+d < 0 {
		return 0, fmt.Errorf("duration %q is negative", s)
	}
	return Duration(total + d), nil
}

// String writes d so that ParseDuration reads it back: whole days as 7d, otherwise as time.Duration does without trailing zeros.
func (d Duration) String() string {
	v := time.Duration(d)
	if v != 0 && v%day == 0 {
		return strconv.FormatInt(int64(v/day), 10) + "d"
	}
	s := v.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText writes the form of String, for YAML and JSON.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := ParseDuration(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// UnmarshalYAML reads a scalar such as 10m, quoted or not.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error { return unmarshalScalar(n, d) }

// Date is a day in UTC, written 2027-01-31.
type Date struct{ time.Time }

// ParseDate reads a day written 2027-01-31.
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("%q is not a date: write it as 2027-01-31", s)
	}
	return Date{t}, nil
}

// String is the day as 2027-01-31, and empty for the zero date.
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return d.Format(time.DateOnly)
}

// MarshalText writes the form of String, for YAML.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what ParseDate reads; empty text is the zero date.
func (d *Date) UnmarshalText(b []byte) error {
	if len(b) == 0 {
		*d = Date{}
		return nil
	}
	v, err := ParseDate(string(b))
	if err != nil {
		return err
	}
	*d = v
	return nil
}

// MarshalJSON exists because the embedded time's own would win over MarshalText.
func (d Date) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads a string in the form of ParseDate.
func (d *Date) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return fmt.Errorf("date: %w", err)
	}
	return d.UnmarshalText([]byte(s))
}

// MarshalYAML exists because the YAML package would write the embedded time with its clock.
func (d Date) MarshalYAML() (any, error) {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: d.String()}, nil
}

// UnmarshalYAML reads a day, quoted or not.
func (d *Date) UnmarshalYAML(n *yaml.Node) error { return unmarshalScalar(n, d) }

func unmarshalScalar(n *yaml.Node, v interface{ UnmarshalText([]byte) error }) error {
	if n.Kind != yaml.ScalarNode {
		return errors.New("must be a single value")
	}
	return v.UnmarshalText([]byte(n.Value))
}
