package main

import (
	"net/http/httptest"
	"testing"
)

func TestHandlerFailsAsTold(t *testing.T) {
	for path, test := range map[string]struct {
		f    faults
		want int
	}{
		"/healthz":  {faults{}, 200},
		"/healthz?": {faults{unready: true}, 503},
		"/":         {faults{release: "v2"}, 200},
		"/x":        {faults{errors: 1}, 500},
	} {
		w := httptest.NewRecorder()
		handler(test.f).ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != test.want {
			t.Errorf("%s with %+v: %d, want %d", path, test.f, w.Code, test.want)
		}
	}
}
