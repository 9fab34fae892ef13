package access_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/orlop/orlop/services/registry"
	"github.com/orlop/orlop/services/registry/access"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	a.cert, a.key = a.issue("authority")
	return a
}

func (a *authority) issue(name string) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := a.cert, a.key
	if parent == nil {
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage, c.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// files writes a certificate and its key.
func (a *authority) files(name string) (cert, key string) {
	a.t.Helper()
	c, k := a.cert, a.key
	if name != "" {
		c, k = a.issue(name)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for path, b := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: c.Raw}, key: {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(b), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	return cert, key
}

// client shows a certificate; an empty name shows none.
func (a *authority) client(trust *authority, name string) *http.Client {
	cfg := &tls.Config{RootCAs: x509.NewCertPool()}
	cfg.RootCAs.AddCert(trust.cert)
	if name != "" {
		c, k := a.issue(name)
		cfg.Certificates = []tls.Certificate{{Certificate: [][]byte{c.Raw}, PrivateKey: k}}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: cfg}}
}

// A client certificate is a name if an authority that is trusted for that issued it.
func TestCertificates(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	ca, _ := ours.files("")
	cert, key := ours.files("server")
	guard, err := access.New(access.Config{Certificates: true, Rights: rights})
	if err != nil {
		t.Fatal(err)
	}
	named := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := guard.Authorize(r, registry.Access{Repository: "team/app", Action: registry.Pull})
		if err != nil {
			w.WriteHeader(err.(*registry.Error).Status)
			return
		}
		w.Header().Set("Who", who.Name)
	})
	srv, err := registry.Serve(registry.Socket{Listen: "127.0.0.1:0", Cert: cert, Key: key, ClientCA: ca}, named)
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close()
	for _, c := range []struct {
		by     *authority
		name   string
		status int // 0: no connection comes about
	}{{ours, "alice", 200}, {ours, "carol", 403}, {ours, "", 401}, {theirs, "alice", 0}} {
		client := c.by.client(ours, c.name)
		resp, err := client.Get("https://" + srv.Address() + "/")
		client.CloseIdleConnections()
		switch {
		case c.status == 0 && err != nil:
			continue
		case err != nil || resp.StatusCode != c.status:
			t.Errorf("%q: %v %v, want %d", c.name, resp, err, c.status)
		case c.status == 200 && resp.Header.Get("Who") != c.name:
			t.Errorf("%q is taken for %q", c.name, resp.Header.Get("Who"))
		}
		if err == nil {
			resp.Body.Close()
		}
	}
	for want, s := range map[string]registry.Socket{"need TLS": {Listen: "127.0.0.1:0", ClientCA: ca}} {
		if err := s.Validate(); err == nil {
			t.Errorf("%s: no error", want)
		}
	}
}
