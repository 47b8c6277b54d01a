package nats_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/listener-agent/listener/store"
	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// user is an nkey.
type user struct {
	public string
	seed   []byte
}

func newKey(t testing.TB, make func() (nkeys.KeyPair, error)) (user, nkeys.KeyPair) {
	t.Helper()
	pair, err := make()
	must(t, err)
	public, err := pair.PublicKey()
	must(t, err)
	seed, err := pair.Seed()
	must(t, err)
	return user{public: public, seed: seed}, pair
}

func newUser(t testing.TB) user {
	u, _ := newKey(t, nkeys.CreateUser)
	return u
}

func write(t testing.TB, path string, data []byte) string {
	t.Helper()
	must(t, os.WriteFile(path, data, 0o600))
	return path
}

// What a user may not do is said at once, with the grant that is missing, and
// the rest works.
func TestPermissions(t *testing.T) {
	t.Parallel()
	admin, node := newUser(t), newUser(t)
	s := startServer(t, `authorization { users = [
		{ nkey: `+admin.public+` }
		{ nkey: `+node.public+`, permissions: {
			publish: { allow: [
				"$JS.API.STREAM.INFO.KV_listener", "$JS.API.CONSUMER.CREATE.KV_listener.>", "$JS.API.DIRECT.GET.KV_listener", "$JS.API.DIRECT.GET.KV_listener.>",
				"$JS.FC.>", "$KV.listener.=s.>", "$KV.listener.=guard", "$KV.listener.f.mine.>"
			] }, subscribe: { allow: [ "_INBOX.>" ] }
		} }
	] }`)
	open := func(u user, seed string) store.Store {
		o := defaults(s.url())
		o.NKeyFile = write(t, filepath.Join(t.TempDir(), seed), u.seed)
		return openStore(t, o)
	}
	n := open(node, "node")
	_, err := n.Get(t.Context(), "/f/mine/a")
	if !errors.Is(err, store.ErrPermission) || !strings.Contains(err.Error(), "$JS.API.STREAM.CREATE.KV_listener") {
		t.Fatalf("a user that may not make the bucket: %v", err)
	}
	a := open(admin, "admin")
	put(t, a, "/f/others/a", "1")
	answers(t, n)

	f := follow(t, n, "/f/")
	f.has("/f/others/a", "1")
	x, err := n.Session(t.Context(), time.Minute, "")
	must(t, err)
	rev := commit(t, n, nil, store.PutSession("/f/mine/a", nil, x), store.Put("/f/mine/b", []byte("1")))
	commit(t, n, []store.Cond{{Key: "/f/mine/a", Rev: rev}}, store.Put("/f/mine/b", []byte("2")))
	f.has("/f/mine/b", "2")
	for name, ops := range map[string][]store.Op{
		"alone":        {store.Put("/f/others/a", nil)},
		"first of two": {store.Put("/f/mine/b", nil), store.Put("/f/others/a", nil)},
		"last of two":  {store.Put("/f/others/a", nil), store.Put("/f/others/b", nil)},
		"delete":       {store.Delete("/f/others/a")},
	} {
		began := time.Now()
		_, err := n.Commit(t.Context(), nil, ops...)
		if !errors.Is(err, store.ErrPermission) || !strings.Contains(err.Error(), "$KV.listener.f.others.") {
			t.Errorf("%s: %v", name, err)
		}
		within(t, name+" was denied", began, 500*time.Millisecond)
	}
	if kv := get(t, n, "/f/others/a"); string(kv.Value) != "1" {
		t.Errorf("%q", kv.Value)
	}

	// A session that cannot refresh one of its keys says so at once.
	commit(t, a, nil, store.PutSession("/f/others/s", nil, x))
	began := time.Now()
	_, err = n.Session(t.Context(), time.Minute, x.ID())
	if !errors.Is(err, store.ErrPermission) || !strings.Contains(err.Error(), "$KV.listener.f.others.s") {
		t.Errorf("resumed: %v", err)
	}
	within(t, "the refresh was denied", began, 500*time.Millisecond)
}

// A user by JWT; its credentials file comes late, and with the wrong user
// first.
func TestCredentialsFile(t *testing.T) {
	t.Parallel()
	operator, operatorKey := newKey(t, nkeys.CreateOperator)
	account, accountKey := newKey(t, nkeys.CreateAccount)
	_, strangerKey := newKey(t, nkeys.CreateAccount)

	operatorJWT, err := jwt.NewOperatorClaims(operator.public).Encode(operatorKey)
	must(t, err)
	claims := jwt.NewAccountClaims(account.public)
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := claims.Encode(operatorKey)
	must(t, err)
	creds := func(by nkeys.KeyPair) []byte {
		u := newUser(t)
		token, err := jwt.NewUserClaims(u.public).Encode(by)
		must(t, err)
		file, err := jwt.FormatUserConfig(token, u.seed)
		must(t, err)
		return file
	}
	system, _ := newKey(t, nkeys.CreateAccount)
	systemJWT, err := jwt.NewAccountClaims(system.public).Encode(operatorKey)
	must(t, err)
	s := startServer(t, fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: { %s: %s, %s: %s }",
		operatorJWT, system.public, account.public, accountJWT, system.public, systemJWT))
	o := defaults(s.url())
	o.CredsFile = filepath.Join(t.TempDir(), "node.creds")
	a := openStore(t, o)
	f := follow(t, a, "/t/")
	f.until("Lost", func() bool { return f.lost != nil })
	if errors.Is(f.lost, store.ErrPermission) || !strings.Contains(f.lost.Error(), "node.creds") {
		t.Errorf("without the file Lost says %v", f.lost)
	}
	write(t, o.CredsFile, creds(strangerKey))
	eventually(t, "the server refuses the user", func() error {
		if _, err := a.Get(t.Context(), "/t/a"); !errors.Is(err, store.ErrPermission) {
			return fmt.Errorf("get: %w", err)
		}
		return nil
	})
	write(t, o.CredsFile, creds(accountKey))
	answers(t, a)
	put(t, a, "/t/a", "1")
	f.has("/t/a", "1")
}

// TLS both ways; a server that nobody vouches for is refused.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	cert, key := ca.issue(t, dir, "server")
	s := startServer(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", cert, key, ca.file))
	o := defaults(s.url())
	o.CAFile = ca.file
	o.CertFile, o.KeyFile = ca.issue(t, dir, "client")
	a := openStore(t, o)
	put(t, a, "/t/a", "1")

	other := o
	other.CAFile = newAuthority(t, dir, "other").file
	_, err := openStore(t, other).Get(t.Context(), "/t/a")
	if !errors.Is(err, store.ErrUnavailable) || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server signed by another authority: %v", err)
	}
	without := o
	without.CertFile, without.KeyFile = "", ""
	if _, err := openStore(t, without).Get(t.Context(), "/t/a"); !errors.Is(err, store.ErrUnavailable) {
		t.Errorf("without a client certificate: %v", err)
	}
	broken := o
	broken.CAFile = write(t, filepath.Join(dir, "broken"), []byte("no certificate"))
	if _, err := openStore(t, broken).Get(t.Context(), "/t/a"); err == nil || !strings.Contains(err.Error(), "no certificate in it") {
		t.Errorf("a broken file: %v", err)
	}
}

// Certificates that have expired, first the server's, then the agent's, and
// are renewed while the agent runs.
func TestExpiredCertificate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newAuthority(t, dir, "ca")
	over := time.Now().Add(-time.Minute)
	cert, key := ca.issueUntil(t, dir, "server", over)
	s := startServer(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", cert, key, ca.file))
	o := defaults(s.url())
	o.CAFile = ca.file
	o.CertFile, o.KeyFile = ca.issue(t, dir, "client")
	a := openStore(t, o)
	f := follow(t, a, "/t/")
	began := time.Now()
	f.until("Lost", func() bool { return f.lost != nil })
	within(t, "Lost with an expired certificate", began, 2*time.Second)
	if !errors.Is(f.lost, store.ErrUnavailable) || !strings.Contains(f.lost.Error(), "expired") {
		t.Errorf("Lost says %v", f.lost)
	}
	ca.issue(t, dir, "server")
	s.kill()
	s.start(t)
	put(t, a, "/t/a", "1")
	f.has("/t/a", "1")

	ca.issueUntil(t, dir, "client", over)
	s.kill()
	s.start(t)
	f.until("Lost", func() bool { return f.lost != nil })
	eventually(t, "the reason", func() error {
		_, err := a.Get(t.Context(), "/t/a")
		if err == nil || !strings.Contains(err.Error(), "expired") && !strings.Contains(err.Error(), "certificate") {
			return fmt.Errorf("get with an expired certificate: %w", err)
		}
		t.Log(err)
		return nil
	})
	ca.issue(t, dir, "client")
	f.until("a Reset", func() bool { return f.lost == nil })
	put(t, a, "/t/a", "2")
	f.has("/t/a", "2")
}

// authority signs certificates.
type authority struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, dir, name string) authority {
	t.Helper()
	a := authority{file: filepath.Join(dir, name+".pem")}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	write(t, a.file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return a
}

func (a authority) issue(t testing.TB, dir, name string) (certFile, keyFile string) {
	t.Helper()
	return a.issueUntil(t, dir, name, time.Now().Add(time.Hour))
}

func (a authority) issueUntil(t testing.TB, dir, name string, end time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: end,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(t, err)
	raw, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	certFile = write(t, filepath.Join(dir, name+"-cert.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	keyFile = write(t, filepath.Join(dir, name+"-key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	return certFile, keyFile
}
