// Package verify decides whether a released image may go on: its signature, and each required piece of evidence about it.
package verify

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	cosignoci "github.com/sigstore/cosign/v2/pkg/oci"
	ociremote "github.com/sigstore/cosign/v2/pkg/oci/remote"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/dsse"
	"github.com/sigstore/sigstore/pkg/signature/payload"
	"golang.org/x/sync/errgroup"

	"github.com/slipwayhq/slipway/stages/internal/keyring"
	"github.com/slipwayhq/slipway/stages/internal/oci"
	"github.com/slipwayhq/slipway/stages/internal/result"
	"github.com/slipwayhq/slipway/stages/internal/statement"
)

// FileName is the stage's record of what it looked at: Verification as JSON.
const FileName = "verification.json"

// parallelFetches bounds the requests to the registry at a time.
const parallelFetches = 8

// clockSkew is how far in the future a statement's time may lie.
const clockSkew = 10 * time.Minute

// Policy is what a release has to bring.
type Policy struct {
	// Require are predicate types or their short names.
	Require []string `json:"require"`
	// MaxAge is how old a scan may be; 0 asks for none.
	MaxAge time.Duration `json:"maxAge"`
	// MaxDatabaseAge is how old the vulnerability database may have been when the scan ran; 0 allows any.
	MaxDatabaseAge time.Duration `json:"maxDatabaseAge"`
}

// Inputs are the stage's.
type Inputs struct {
	Reference string
	// PublicKey is a PEM file or a key management service's URI.
	PublicKey string
	Policy    Policy
	Now       time.Time
	Client    *oci.Client
	Out       string
}

// Verification is what was looked at.
type Verification struct {
	Reference string     `json:"reference"`
	Digest    string     `json:"digest"`
	Time      string     `json:"time"`
	Policy    Policy     `json:"policy"`
	Evidence  []Evidence `json:"evidence"`
}

// Evidence is a signature or an attestation, and whether it holds.
type Evidence struct {
	// Type is "signature" or a predicate type.
	Type string `json:"type"`
	// Stage is the one whose result a test result is.
	Stage  string `json:"stage,omitempty"`
	Digest string `json:"digest"`
	// Signer is the public key's SHA-256 when the signature holds under it.
	Signer string `json:"signer,omitempty"`
	OK     bool   `json:"ok"`
	// Problem says why it does not count.
	Problem string `json:"problem,omitempty"`
	Verdict string `json:"verdict,omitempty"`
	Time    string `json:"time,omitempty"`
}

// Read loads the record that Run left in dir.
func Read(dir string) (*Verification, error) {
	data, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		return nil, fmt.Errorf("reading the verification: %w", err)
	}
	var v Verification
	if err := json.Unmarshal(data, &v); err != nil {
		return nil, fmt.Errorf("reading the verification: %s: %w", FileName, err)
	}
	return &v, nil
}

// Run verifies. A missing or wrong piece is a finding and a failing verdict; only what keeps it from looking is an error.
func Run(ctx context.Context, in Inputs) (*result.Result, error) {
	verifier, err := keyring.Verifier(ctx, in.PublicKey)
	if err != nil {
		return nil, err
	}
	required := make([]statement.Kind, 0, len(in.Policy.Require))
	for _, r := range in.Policy.Require {
		k, err := statement.ParseKind(r)
		if err != nil {
			return nil, err
		}
		required = append(required, k)
	}
	ref, err := in.Client.Reference(in.Reference)
	if err != nil {
		return nil, err
	}
	image, ok := ref.(name.Digest)
	if !ok {
		digest, found, err := in.Client.Digest(ctx, ref)
		if err != nil {
			return nil, fmt.Errorf("looking up %s: %w", ref, err)
		}
		if !found {
			return nil, result.Inputf("%s: not found in registry %s", ref, ref.Context().RegistryStr())
		}
		image = ref.Context().Digest(digest.String())
	}
	signer, err := keyring.Fingerprint(ctx, verifier)
	if err != nil {
		return nil, err
	}
	v := &verifying{in: in, verifier: verifier, image: image, signer: signer, record: Verification{
		Reference: image.String(), Digest: image.DigestStr(), Time: in.Now.UTC().Format(time.RFC3339), Policy: in.Policy}}
	if err := v.content(ctx); err != nil {
		return nil, err
	}
	if len(v.findings) == 0 { // evidence about what is not there is worth nothing
		if err := v.evidence(ctx, required); err != nil {
			return nil, err
		}
	}
	data, err := json.MarshalIndent(v.record, "", "  ")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(in.Out, FileName), append(data, '\n'), 0o644); err != nil {
		return nil, err
	}
	return v.result(len(required)), nil
}

// verifying is one run.
type verifying struct {
	in       Inputs
	verifier signature.Verifier
	signer   string
	image    name.Digest
	record   Verification
	findings []result.Finding
}

func (v *verifying) result(required int) *result.Result {
	r := &result.Result{
		Verdict:  result.Pass,
		Summary:  fmt.Sprintf("%s: signature and %d of %d required pieces of evidence hold", v.image.DigestStr(), required, required),
		Findings: v.findings,
		Outputs:  map[string]string{"reference": v.image.String(), "digest": v.image.DigestStr()},
		Files:    []result.File{{Path: FileName, MediaType: "application/json"}},
	}
	if len(v.findings) > 0 {
		var ids []string
		for _, f := range v.findings {
			ids = append(ids, f.ID)
		}
		r.Verdict = result.Fail
		r.Summary = fmt.Sprintf("%s: %s", v.image.DigestStr(), strings.Join(ids, ", "))
	}
	return r
}

func (v *verifying) fail(id, fix, format string, args ...any) {
	v.findings = append(v.findings, result.Finding{ID: id, Severity: result.Critical, Location: v.image.String(),
		Message: fmt.Sprintf(format, args...), Fix: fix})
}

// evidence looks at the image's signatures and attestations.
func (v *verifying) evidence(ctx context.Context, required []statement.Kind) error {
	entity, err := ociremote.SignedEntity(v.image, ociremote.WithRemoteOptions(v.in.Client.Options(ctx)...))
	if err != nil {
		return fmt.Errorf("reading %s: %w", v.image, oci.Explain(err, v.image))
	}
	if err := v.signatures(entity); err != nil {
		return err
	}
	return v.attestations(entity, required)
}

func (v *verifying) signatures(entity cosignoci.SignedEntity) error {
	sigs, err := entity.Signatures()
	if err != nil {
		return fmt.Errorf("reading signatures: %w", err)
	}
	all, err := sigs.Get()
	if err != nil {
		return fmt.Errorf("reading signatures: %w", err)
	}
	good := false
	for _, s := range all {
		e := v.signatureEvidence(s)
		good = good || e.OK
		v.record.Evidence = append(v.record.Evidence, e)
	}
	switch {
	case good:
	case len(all) == 0:
		v.fail("missing-signature", "sign and publish it", "the image has no signature")
	default:
		v.fail("wrong-signature", "sign it with the key that is trusted here, or trust the key that signed it",
			"none of the image's %d signatures holds: %s", len(all), v.record.Evidence[0].Problem)
	}
	return nil
}

func (v *verifying) signatureEvidence(s cosignoci.Signature) Evidence {
	e := Evidence{Type: "signature"}
	problem := func(format string, args ...any) Evidence {
		e.Problem = fmt.Sprintf(format, args...)
		return e
	}
	if d, err := s.Digest(); err == nil {
		e.Digest = d.String()
	}
	text, err := s.Payload()
	if err != nil {
		return problem("its payload cannot be read: %v", err)
	}
	encoded, err := s.Base64Signature()
	if err != nil {
		return problem("it cannot be read: %v", err)
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return problem("it is not base64")
	}
	if err := v.verifier.VerifySignature(bytes.NewReader(raw), bytes.NewReader(text)); err != nil {
		return problem("it was made by another key")
	}
	e.Signer = v.signer
	var claim payload.SimpleContainerImage
	if err := json.Unmarshal(text, &claim); err != nil {
		return problem("its payload is not a simple signing document")
	}
	if got := claim.Critical.Image.DockerManifestDigest; got != v.image.DigestStr() {
		return problem("it is for %s", got)
	}
	e.OK = true
	return e
}

// attestations looks at every attestation, and then for each required kind whether one holds.
func (v *verifying) attestations(entity cosignoci.SignedEntity, required []statement.Kind) error {
	atts, err := entity.Attestations()
	if err != nil {
		return fmt.Errorf("reading attestations: %w", err)
	}
	all, err := atts.Get()
	if err != nil {
		return fmt.Errorf("reading attestations: %w", err)
	}
	// An image gathers dozens over time, and each is a request.
	evidence := make([]Evidence, len(all))
	var group errgroup.Group
	group.SetLimit(parallelFetches)
	for i, a := range all {
		group.Go(func() error {
			evidence[i] = v.attestationEvidence(a)
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	found := map[statement.Kind][]Evidence{}
	for _, e := range evidence {
		kind := statement.Kind{PredicateType: e.Type, Stage: e.Stage}
		found[kind] = append(found[kind], e)
		v.record.Evidence = append(v.record.Evidence, e)
	}
	for _, kind := range required {
		v.require(kind, found[kind])
	}
	return nil
}

// require asks for one piece of a kind that holds. Where verdicts have a time, the newest decides: a scan that fails today takes back
// what last week's said.
func (v *verifying) require(kind statement.Kind, found []Evidence) {
	const again = "run the pipeline again, and publish what it signed"
	if len(found) == 0 {
		v.fail("missing-"+kind.String(), again, "the image has no %s attestation (%s)", kind, kind.PredicateType)
		return
	}
	newest := slices.MaxFunc(found, func(a, b Evidence) int { return strings.Compare(a.Time, b.Time) }).Time
	var problems []string
	for _, e := range found {
		if !e.OK && e.Time == newest && !slices.Contains(problems, e.Problem) {
			problems = append(problems, e.Problem)
		}
	}
	switch {
	case newest != "" && len(problems) > 0:
		v.fail("wrong-"+kind.String(), again, "the newest of the image's %s attestations does not count: %s", kind, strings.Join(problems, "; "))
	case newest == "" && !slices.ContainsFunc(found, func(e Evidence) bool { return e.OK }):
		v.fail("wrong-"+kind.String(), again, "none of the image's %d %s attestations counts: %s", len(found), kind, strings.Join(problems, "; "))
	}
}

func (v *verifying) attestationEvidence(a cosignoci.Signature) Evidence {
	e := Evidence{Type: "unreadable"}
	if d, err := a.Digest(); err == nil {
		e.Digest = d.String()
	}
	problem := func(format string, args ...any) Evidence {
		e.Problem = fmt.Sprintf(format, args...)
		return e
	}
	envelope, err := a.Payload()
	if err != nil {
		return problem("it cannot be read: %v", err)
	}
	s, err := openEnvelope(envelope)
	if err != nil {
		return problem("%v", err)
	}
	kind := s.Kind()
	e.Type, e.Stage = kind.PredicateType, kind.Stage
	if err := dsse.WrapVerifier(v.verifier).VerifySignature(bytes.NewReader(envelope), nil); err != nil {
		return problem("it was signed by another key, or changed")
	}
	e.Signer = v.signer
	if !s.About(v.image.DigestStr()) {
		return problem("it is about another digest")
	}
	if p := v.judge(s, &e); p != "" {
		return problem("%s", p)
	}
	e.OK = true
	return e
}

// openEnvelope takes the statement out of a DSSE envelope, whoever signed it.
func openEnvelope(data []byte) (*statement.Statement, error) {
	var envelope struct {
		PayloadType string `json:"payloadType"`
		Payload     []byte `json:"payload"`
	}
	if err := json.Unmarshal(data, &envelope); err != nil {
		return nil, fmt.Errorf("it is not a DSSE envelope: %w", err)
	}
	return statement.Parse(envelope.Payload)
}

// judge looks at the verdict and the time inside a statement, and returns what is wrong.
func (v *verifying) judge(s *statement.Statement, e *Evidence) string {
	if s.PredicateType != statement.Scan && s.PredicateType != statement.Test {
		return ""
	}
	var p struct {
		Result  string             `json:"result"`
		Slipway *statement.Verdict `json:"slipway"`
		Scanner struct {
			DB struct {
				LastUpdate time.Time `json:"lastUpdate"`
			} `json:"db"`
		} `json:"scanner"`
	}
	if err := json.Unmarshal(s.Predicate, &p); err != nil {
		return "its predicate cannot be read"
	}
	if p.Slipway == nil {
		return "it holds no verdict"
	}
	at, err := time.Parse(time.RFC3339, p.Slipway.Time)
	if err != nil {
		return "its time cannot be read"
	}
	e.Verdict, e.Time = string(p.Slipway.Verdict), at.UTC().Format(time.RFC3339)
	switch {
	case p.Slipway.Verdict != result.Pass:
		return fmt.Sprintf("its verdict is %q: %s", p.Slipway.Verdict, p.Slipway.Summary)
	case at.After(v.in.Now.Add(clockSkew)):
		return fmt.Sprintf("its time %s lies in the future", p.Slipway.Time)
	case s.PredicateType == statement.Test && p.Result != "PASSED":
		return fmt.Sprintf("its result is %q, not PASSED", p.Result)
	case s.PredicateType == statement.Scan && v.in.Policy.MaxAge > 0 && v.in.Now.Sub(at) > v.in.Policy.MaxAge:
		return fmt.Sprintf("it is %s old (limit %s)", v.in.Now.Sub(at).Round(time.Minute), v.in.Policy.MaxAge)
	case s.PredicateType == statement.Scan:
		return v.judgeDatabase(at, p.Scanner.DB.LastUpdate)
	}
	return ""
}

// judgeDatabase looks at the age of the vulnerability database when the scan ran: an old one finds nothing new.
func (v *verifying) judgeDatabase(scanned, updated time.Time) string {
	limit := v.in.Policy.MaxDatabaseAge
	switch age := scanned.Sub(updated); {
	case limit == 0:
	case updated.IsZero():
		return "it does not say how old its vulnerability database was"
	case age > limit:
		return fmt.Sprintf("its vulnerability database was %s old (limit %s)", age.Round(time.Minute), limit)
	}
	return ""
}
