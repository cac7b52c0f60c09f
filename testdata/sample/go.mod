module example.com/sample

go 1.25.0

require (
	github.com/go-chi/chi/v5 v5.2.3
	github.com/google/uuid v1.6.0
	golang.org/x/text v0.31.0
)
