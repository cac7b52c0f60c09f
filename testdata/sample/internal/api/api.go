// Package api is the sample service's HTTP interface: it greets people, in their language and at their time of day.
package api

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"
	"golang.org/x/text/language"
)

// Version is what the build stamped into the binary.
type Version struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Date    string `json:"date"`
}

// Greeting is the answer of /api/greetings/{name}.
type Greeting struct {
	ID       string `json:"id"`
	Text     string `json:"text"`
	Language string `json:"language"`
	Time     string `json:"time"`
}

var (
	languages = []language.Tag{language.English, language.German, language.French}
	matcher   = language.NewMatcher(languages)
	words     = map[language.Tag][3]string{
		language.English: {"Good morning", "Good afternoon", "Good evening"},
		language.German:  {"Guten Morgen", "Guten Tag", "Guten Abend"},
		language.French:  {"Bonjour", "Bonjour", "Bonsoir"},
	}
)

// New returns the service's handler; now is the clock.
func New(v Version, now func() time.Time, log *slog.Logger) http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.Recoverer)
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		write(w, log, http.StatusOK, map[string]string{"status": "ok"})
	})
	r.Get("/version", func(w http.ResponseWriter, _ *http.Request) { write(w, log, http.StatusOK, v) })
	r.Get("/api/greetings/{name}", func(w http.ResponseWriter, r *http.Request) {
		zone := r.URL.Query().Get("zone")
		location, err := time.LoadLocation(zone)
		if err != nil {
			write(w, log, http.StatusBadRequest, map[string]string{"error": "unknown time zone " + zone})
			return
		}
		write(w, log, http.StatusOK, Greet(chi.URLParam(r, "name"), r.Header.Get("Accept-Language"), now().In(location)))
	})
	return r
}

// Greet greets name in the best language of accept, an Accept-Language header.
func Greet(name, accept string, at time.Time) Greeting {
	_, i := language.MatchStrings(matcher, accept)
	lang := languages[i]
	return Greeting{
		ID:       uuid.NewString(),
		Text:     words[lang][part(at)] + ", " + name + "!",
		Language: lang.String(),
		Time:     at.Format(time.RFC3339),
	}
}

// part of the day: morning, afternoon or evening.
func part(at time.Time) int {
	switch h := at.Hour(); {
	case h >= 4 && h < 12:
		return 0
	case h >= 12 && h < 18:
		return 1
	}
	return 2
}

func write(w http.ResponseWriter, log *slog.Logger, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Error("writing the answer", "error", err)
	}
}
