package script

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orlop/orlop/test/e2e"
)

// authority signs certificates for the test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, dir, name string) *authority {
	a := &authority{t: t, dir: dir}
	a.cert, a.key = a.issue(name, nil)
	return a
}

// issue writes NAME.pem and NAME.key; the first is the authority's own.
func (a *authority) issue(name string, uses []x509.ExtKeyUsage) (*x509.Certificate, *ecdsa.PrivateKey) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: uses, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	parent, signer := a.cert, a.key
	if parent == nil {
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage = true, true, x509.KeyUsageCertSign
		parent, signer = tmpl, key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	a.write(name+".pem", "CERTIFICATE", der)
	a.write(name+".key", "EC PRIVATE KEY", secret)
	return cert, key
}

func (a *authority) write(name, kind string, data []byte) {
	if err := os.WriteFile(filepath.Join(a.dir, name), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// TestTLS reaches the Docker API by TCP: with a certificate that the daemon trusts,
// and not without one, nor with another authority's, nor without TLS.
func TestTLS(t *testing.T) {
	r := newRig(t)
	good, bad := newAuthority(t, r.dir, "ca"), newAuthority(t, r.dir, "stranger")
	good.issue("server", []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth})
	good.issue("client", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
	bad.issue("intruder", []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth})
	address := e2e.FreeAddress(t)
	config := fmt.Sprintf("version = 4\n[plugins.'io.containerd.server.v1.docker'.tcp]\nlisten = %q\nca = %q\ncert = %q\nkey = %q\n",
		address, r.path("ca.pem"), r.path("server.pem"), r.path("server.key"))
	if err := os.WriteFile(r.path("config.toml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	r.startDaemon()
	trusted := []string{"-H", "tcp://" + address, "--tlsverify", "--tlscacert", r.path("ca.pem"), "--tlscert", r.path("client.pem"), "--tlskey", r.path("client.key")}
	intruder := []string{"-H", "tcp://" + address, "--tlsverify", "--tlscacert", r.path("ca.pem"), "--tlscert", r.path("intruder.pem"), "--tlskey", r.path("intruder.key")}
	clients := []string{r.path("bin", "orlop")}
	if docker, err := exec.LookPath("docker"); err == nil {
		clients = append(clients, docker)
	}
	for _, client := range clients {
		for _, c := range []struct {
			name  string
			flags []string
			ok    bool
		}{{"trusted", trusted, true}, {"intruder", intruder, false}, {"no TLS", []string{"-H", "tcp://" + address}, false}} {
			out, err := exec.Command(client, append(c.flags, "ps")...).CombinedOutput()
			if (err == nil) != c.ok || strings.Contains(string(out), "CONTAINER ID") != c.ok {
				t.Errorf("%s, %s: %v: %s", filepath.Base(client), c.name, err, out)
			}
		}
	}
}
