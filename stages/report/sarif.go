package report

import (
	"encoding/json"
	"os"
	"path/filepath"
)

const sarifType = "application/sarif+json"

// CodeScanning is what all stages wrote as SARIF, in one file: services take one upload. A stage whose file cannot be read is left out; its verdict
// does not come from here.
func CodeScanning(run *Run, root *os.Root) ([]byte, error) {
	runs := []map[string]json.RawMessage{}
	for _, st := range run.Stages {
		if st.Dir == "" {
			continue
		}
		r, err := readResult(root, st.Dir)
		if err != nil {
			continue
		}
		for _, f := range r.Files {
			if f.MediaType == sarifType {
				runs = append(runs, sarifRuns(root, filepath.Join(st.Dir, f.Path), st.Stage)...)
			}
		}
	}
	return indented(map[string]any{"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": runs})
}

// sarifRuns are the runs of one file, each under its stage's name: a service keeps what it knows by that.
func sarifRuns(root *os.Root, name, stage string) []map[string]json.RawMessage {
	data, err := readFile(root, name)
	if err != nil {
		return nil
	}
	var log struct {
		Runs []map[string]json.RawMessage `json:"runs"`
	}
	if json.Unmarshal(data, &log) != nil {
		return nil
	}
	for _, r := range log.Runs {
		if r == nil {
			return nil
		}
		id, err := json.Marshal(map[string]string{"id": "slipway/" + stage + "/"})
		if err != nil {
			return nil
		}
		r["automationDetails"] = id
	}
	return log.Runs
}
