package etcd_test

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
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/listener-agent/listener/store/etcd"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// authority signs the certificates of one test, in files of dir.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.cert, a.key = a.sign(t, "ca", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

func (a *authority) path(name string) string { return filepath.Join(a.dir, name) }

// sign writes NAME.pem and NAME.key.
func (a *authority) sign(t *testing.T, name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	c.Subject = pkix.Name{CommonName: name}
	c.NotBefore = time.Now().Add(-24 * time.Hour)
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Now().Add(time.Hour)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	must(t, err)
	secret, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	a.write(t, name+".pem", "CERTIFICATE", der)
	a.write(t, name+".key", "EC PRIVATE KEY", secret)
	c, err = x509.ParseCertificate(der)
	must(t, err)
	return c, key
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) {
	t.Helper()
	temp := a.path(name + ".new")
	must(t, os.WriteFile(temp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	must(t, os.Rename(temp, a.path(name)))
}

var forServer = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}

// serverCert is a certificate for a server by address, or by another name.
func (a *authority) serverCert(t *testing.T, dnsName string, until time.Time) {
	t.Helper()
	c := &x509.Certificate{ExtKeyUsage: forServer, NotAfter: until}
	if dnsName == "" {
		c.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	} else {
		c.DNSNames = []string{dnsName}
	}
	a.sign(t, "server", c)
}

// serve starts an etcd that wants client certificates.
func (a *authority) serve(t *testing.T) *server {
	t.Helper()
	a.sign(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	return startServer(t, self(t), func(s *server) {
		s.secure = true
		s.dialer = func(c *clientv3.Config) {
			pair, err := tls.LoadX509KeyPair(a.path("client.pem"), a.path("client.key"))
			must(t, err)
			c.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}
		}
	}, "--cert-file", a.path("server.pem"), "--key-file", a.path("server.key"), "--client-cert-auth", "--trusted-ca-file", a.path("ca.pem"))
}

func (a *authority) options(s *server) etcd.Options {
	return etcd.Options{
		Endpoints: []string{s.url()}, CAFile: a.path("ca.pem"),
		CertFile: a.path("client.pem"), KeyFile: a.path("client.key"),
	}
}

func TestCertificates(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.serverCert(t, "", time.Time{})
	s := a.serve(t)
	c := open(t, a.options(s))
	f := follow(t, c, "/t/")
	f.has("")
	put(t, c, "/t/a", "1")
	f.has("/t/a=1")

	other := newAuthority(t)
	o := a.options(s)
	o.CAFile = other.path("ca.pem")
	follow(t, open(t, o), "/t/").isLost("unavailable", "unknown authority")
	o = a.options(s)
	o.CertFile, o.KeyFile = "", ""
	follow(t, open(t, o), "/t/").isLost("unavailable")
	o.CAFile = a.path("none.pem")
	if _, err := etcd.Open(o); err == nil {
		t.Error("an authority's file that is not there is no error")
	}
}

func TestServerName(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.serverCert(t, "etcd.example", time.Time{})
	s := a.serve(t)
	o := a.options(s)
	follow(t, open(t, o), "/t/").isLost("unavailable", "127.0.0.1")
	o.ServerName = "etcd.example"
	follow(t, open(t, o), "/t/").has("")
}

// A certificate that has expired, and is renewed while the agent runs.
func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	a.serverCert(t, "", time.Now().Add(-time.Minute))
	s := a.serve(t)
	c := open(t, a.options(s))
	f := follow(t, c, "/t/")
	within(t, "Lost with an expired certificate", f.isLost("unavailable", "expired"), 2*time.Second)
	if _, err := c.Get(t.Context(), "/t/a"); err == nil {
		t.Error("get from a server whose certificate has expired")
	} else {
		t.Log(err)
	}
	a.serverCert(t, "", time.Time{})
	f.has("")

	a.sign(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, NotAfter: time.Now().Add(-time.Minute)})
	s.kill()
	s.launch(t)
	f.isLost("unavailable")
	a.sign(t, "client", &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	f.has("")
}
