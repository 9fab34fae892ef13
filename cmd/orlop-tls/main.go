// Orlop-tls carries a connection's bytes over TLS:
//
//	orlop-tls [-ca FILE] [-cert FILE -key FILE] [-skip-verify] HOST:PORT
//
// Its standard input is a socket. When the server is connected and known, one byte, 0, is
// written to it; from then on bytes are copied both ways until either side ends.
// The program is apart from those that use it, as few do.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// dialWait bounds connecting.
const dialWait = 5 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ca := flag.String("ca", "", "certificates of authorities, instead of the system's")
	cert := flag.String("cert", "", "own certificate")
	key := flag.String("key", "", "its key")
	skip := flag.Bool("skip-verify", false, "take any server's certificate")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: *skip}
	if *ca != "" {
		pem, err := os.ReadFile(*ca)
		if err != nil {
			return err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("%s holds no certificate", *ca)
		}
	}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *key)
		if err != nil {
			return err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	inner, err := net.FileConn(os.Stdin)
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	outer, err := tls.DialWithDialer(&net.Dialer{Timeout: dialWait}, "tcp", flag.Arg(0), config)
	if err != nil {
		return err
	}
	if _, err := inner.Write([]byte{0}); err != nil {
		return err
	}
	return relay(inner, outer)
}

// relay copies until either side ends.
func relay(inner, outer net.Conn) error {
	ended := make(chan error, 2)
	go func() { _, err := io.Copy(outer, inner); ended <- err }()
	go func() { _, err := io.Copy(inner, outer); ended <- err }()
	err := <-ended
	outer.Close() // tells the server, after what was written
	inner.Close()
	return err
}
