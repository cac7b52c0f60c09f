package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// certificateLife is how long the cluster's certificates hold: a cluster lives shorter, and each has its own.
const certificateLife = 10 * 365 * 24 * time.Hour

func (c *cluster) pki(name string) string { return c.state("pki", name) }

// issue makes the cluster's authority, the API server's and the administrator's certificates, the key that signs service accounts' tokens,
// and the kubeconfigs: one for the node's own parts, one for people.
func (c *cluster) issue() error {
	if err := os.MkdirAll(c.state("pki"), 0o700); err != nil {
		return err
	}
	authority := &x509.Certificate{Subject: pkix.Name{CommonName: "slipway-cluster"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	key, err := c.certificate("ca", authority, authority, nil)
	if err != nil {
		return err
	}
	server := &x509.Certificate{Subject: pkix.Name{CommonName: "kube-apiserver"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.ParseIP("127.0.0.1"), net.ParseIP(nodeAddress), net.ParseIP(apiServiceIP)},
		DNSNames:    []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"}}
	if _, err := c.certificate("apiserver", server, authority, key); err != nil {
		return err
	}
	admin := &x509.Certificate{Subject: pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	if _, err := c.certificate("admin", admin, authority, key); err != nil {
		return err
	}
	if err := c.tokenKey(); err != nil {
		return err
	}
	p, err := c.readProcess(forwarder)
	if err != nil {
		return err
	}
	return errors.Join(c.writeKubeconfig(c.nodeKubeconfig(), "127.0.0.1:"+apiPort), c.writeKubeconfig(c.kubeconfig(), p.Address))
}

// certificate makes a key and a certificate by the authority, which signs itself when it has no key yet.
func (c *cluster) certificate(name string, cert, authority *x509.Certificate, signer crypto.Signer) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if signer == nil {
		signer = key
	}
	if cert.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return nil, err
	}
	now := time.Now()
	cert.NotBefore, cert.NotAfter = now.Add(-time.Hour), now.Add(certificateLife)
	cert.KeyUsage |= x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, cert, authority, key.Public(), signer)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return key, errors.Join(writePEM(c.pki(name+".crt"), "CERTIFICATE", der), writePEM(c.pki(name+".key"), "PRIVATE KEY", private))
}

func (c *cluster) tokenKey() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	return errors.Join(writePEM(c.pki("sa.key"), "EC PRIVATE KEY", private), writePEM(c.pki("sa.pub"), "PUBLIC KEY", public))
}

func writePEM(file, kind string, der []byte) error {
	return os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600)
}

// nodeKubeconfig is that of the node's own parts, which are inside the namespace.
func (c *cluster) nodeKubeconfig() string { return c.state("node.kubeconfig") }

// writeKubeconfig gives the administrator's access through an address of the API server.
func (c *cluster) writeKubeconfig(file, address string) error {
	var data [3]string
	for i, name := range []string{"ca.crt", "admin.crt", "admin.key"} {
		text, err := os.ReadFile(c.pki(name))
		if err != nil {
			return err
		}
		data[i] = base64.StdEncoding.EncodeToString(text)
	}
	return os.WriteFile(file, fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: slipway
clusters: [{name: slipway, cluster: {server: "https://%s", certificate-authority-data: %s}}]
users: [{name: admin, user: {client-certificate-data: %s, client-key-data: %s}}]
contexts: [{name: slipway, context: {cluster: slipway, user: admin}}]
`, address, data[0], data[1], data[2]), 0o600)
}
