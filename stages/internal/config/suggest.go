package config

import (
	"strings"
)

// suggest says which of the valid words was probably meant, or lists them all.
func suggest(word string, valid []string) string {
	best, distance := "", max(2, len(word)/3)+1
	for _, v := range valid {
		if d := editDistance(strings.ToLower(word), strings.ToLower(v)); d < distance {
			best, distance = v, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "use one of " + strings.Join(valid, ", ")
}

// editDistance is the number of inserted, deleted and replaced bytes between a and b. Long words are far from everything: that bounds
// the work on hostile input.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return max(len(a), len(b))
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next := min(row[j]+1, row[j+1]+1, diagonal+cost)
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
