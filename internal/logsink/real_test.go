package logsink

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
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

	"github.com/orlop/orlop/internal/logfile"
)

// start runs a program until the test's end.
func start(t *testing.T, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", name, out.String())
		}
	})
}

func eventually(t *testing.T, what string, fn func() bool) {
	t.Helper()
	for range 400 {
		if fn() {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	t.Fatalf("%s: it did not happen within ten seconds", what)
}

// systemd's own daemon takes what is sent, as it was meant.
func TestJournald(t *testing.T) {
	const program = "/lib/systemd/systemd-journald"
	if _, err := os.Stat(program); err != nil || os.Geteuid() != 0 {
		t.Skip("needs root and systemd-journald")
	}
	name := fmt.Sprintf("orlop%d", os.Getpid())
	dir := "/run/systemd/journal." + name
	start(t, program, name)
	t.Cleanup(func() {
		left, _ := filepath.Glob("/*/log/journal/*." + name)
		for _, path := range append(left, dir) {
			os.RemoveAll(path)
		}
	})
	eventually(t, "socket", func() bool { _, err := os.Stat(dir + "/socket"); return err == nil })
	s := open(t, "journald", map[string]string{"journald-address": "unixgram://" + dir + "/socket"})
	s.Write(entry("out\n", logfile.Stdout))
	s.Write(entry("two\nlines\n", logfile.Stderr))
	s.Write(entry("a part", logfile.Stdout))
	s.Close(5 * time.Second)
	var lines []map[string]any
	eventually(t, "journal", func() bool {
		out, _ := exec.Command("journalctl", "--namespace="+name, "-o", "json", "CONTAINER_NAME=web").Output()
		lines = nil
		for line := range bytes.Lines(out) {
			var m map[string]any
			if json.Unmarshal(line, &m) == nil {
				lines = append(lines, m)
			}
		}
		return len(lines) == 3
	})
	for i, want := range []string{"out 6 <nil>", "two\nlines 3 <nil>", "a part 6 true"} {
		m := lines[i]
		if got := fmt.Sprint(m["MESSAGE"], " ", m["PRIORITY"], " ", m["CONTAINER_PARTIAL_MESSAGE"]); got != want {
			t.Errorf("line %d: %q, want %q", i, got, want)
		}
		if m["CONTAINER_ID"] != "0123456789ab" || m["CONTAINER_TAG"] != "the-tag" || m["SYSLOG_IDENTIFIER"] != "the-tag" || m["COM_LABEL"] != "v" || m["IMAGE_NAME"] != "box" {
			t.Errorf("fields of line %d: %v", i, m)
		}
	}
}

// rsyslog reads every format on every way.
func TestRsyslog(t *testing.T) {
	if _, err := exec.LookPath("rsyslogd"); err != nil {
		t.Skip("needs rsyslogd")
	}
	dir := t.TempDir()
	tcp, udp := freePort(t), freePort(t)
	config := fmt.Sprintf(`global(workDirectory=%[1]q)
module(load="imtcp") module(load="imudp") module(load="imuxsock" SysSock.Use="off")
input(type="imtcp" port="%[2]d" address="127.0.0.1") input(type="imudp" port="%[3]d" address="127.0.0.1")
input(type="imuxsock" Socket="%[1]s/sock")
template(name="t" type="string" string="%%syslogfacility-text%%.%%syslogseverity-text%% %%programname%%:%%msg%%\n")
*.* action(type="omfile" file="%[1]s/out" template="t")
`, dir, tcp, udp)
	path := filepath.Join(dir, "conf")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, "rsyslogd", "-n", "-f", path, "-i", filepath.Join(dir, "pid"))
	eventually(t, "port", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", tcp))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	n := 0
	for _, at := range []string{fmt.Sprintf("tcp://127.0.0.1:%d", tcp), fmt.Sprintf("udp://127.0.0.1:%d", udp), "unixgram://" + dir + "/sock"} {
		for _, format := range []string{"", "rfc3164", "rfc5424", "rfc5424micro"} {
			if n++; strings.HasPrefix(at, "unix") && format != "" {
				continue // on its own socket syslog expects no host's name
			}
			s := open(t, "syslog", map[string]string{"syslog-address": at, "syslog-format": format, "syslog-facility": "local3"})
			text := fmt.Sprintf("line %d", n)
			s.Write(entry(text+"\n", logfile.Stderr))
			eventually(t, at+" "+format, func() bool {
				got, _ := os.ReadFile(filepath.Join(dir, "out"))
				for line := range strings.Lines(string(got)) {
					if strings.HasPrefix(line, "local3.err the-tag:") && strings.HasSuffix(line, text+"\n") {
						return true
					}
				}
				return false
			})
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l := listen(t, "tcp", "127.0.0.1:0")
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// The relay secures connections, and says why it can't.
func TestSecure(t *testing.T) {
	bin := t.TempDir()
	if out, err := exec.Command("go", "build", "-o", filepath.Join(bin, Relay), "../../cmd/orlop-tls").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	cert, pemFile := certificate(t)
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	at := "tcp+tls://" + l.Addr().String()
	s := open(t, "syslog", map[string]string{"syslog-address": at, "syslog-format": "rfc5424", "syslog-tls-ca-cert": pemFile})
	s.Write(entry("secret\n", logfile.Stdout))
	_, r := accept(t, l)
	text, err := r.ReadString('t') // "75 <30>1 … - secret", counted
	for err == nil && !strings.HasSuffix(text, "secret") {
		var more string
		more, err = r.ReadString('t')
		text += more
	}
	count, rest, _ := strings.Cut(text, " ")
	if err != nil || count != fmt.Sprint(len(rest)) {
		t.Errorf("%q, %v", text, err)
	}
	go func() {
		if c, err := l.Accept(); err == nil {
			c.Read(make([]byte, 1)) // greets, and is refused
			c.Close()
		}
	}()
	refused := &secure{}
	if _, err := refused.open(l.Addr().String()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: %v", err)
	}
}

func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cert.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}
